"""Keep every answer of a model: answers in, the same answers out after whatever happened."""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from dalm import progress
from dalm.errors import UserError
from dalm.llm.language_model import Ask, Reply, Request

logger = logging.getLogger(__name__)


class Journal:
    """A file with a line of JSON for each answer; lines are added, and never changed.

    A line is on the disk before the next one is begun (fsync), so that a process that is killed,
    or a machine that loses power, loses the answer it was writing down at the most. Only the
    places of the lines are held in memory.

    Raises UserError when another run is writing to the same file, or it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies = Totals()
        self._places: dict[str, int] = {}
        self._lock = FileLock(f"{path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._file = path.open("a+b", buffering=0)
        except Timeout:
            raise UserError(
                f"{path}: another run is writing there; wait for it, or name another folder"
            ) from None
        except OSError as error:
            raise self._broken(error) from error
        self._torn = self._read()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._lock.release()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, request: Request, reply: Reply, model: str) -> None:
        """Write an answer down."""
        line: dict[str, Any] = {"key": request.key, **request.about, "model": model}
        line |= {name: getattr(reply, name) for name in Reply.__slots__}
        text = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            if self._torn:
                self._write(b"\n")
                self._torn = False
            place = self._file.seek(0, os.SEEK_END)
            self._write(text)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._broken(error) from error
        self._places[request.key] = place
        self.replies.add(reply)

    def get(self, key: str) -> Reply:
        """Return the answer to a request."""
        self._file.seek(self._places[key])
        line = _line(self._file_line())
        assert line is not None, f"{self.path} was changed while it was read"
        return line[1]

    def _file_line(self) -> bytes:
        parts = []
        while part := self._file.read(1 << 14):
            line, end, _ = part.partition(b"\n")
            parts.append(line)
            if end:
                break
        return b"".join(parts)

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]

    def _read(self) -> bool:
        """Find the lines, and tell whether the last one was cut short."""
        broken, place, line = 0, 0, b"\n"
        with self.path.open("rb") as file:
            for line in file:
                if found := _line(line):
                    self._places.setdefault(found[0], place)
                    self.replies.add(found[1])
                elif line.strip():
                    broken += 1
                place += len(line)
        if broken:
            logger.info("journal    %d lines were cut short; they are asked again", broken)
        return not line.endswith(b"\n")

    def _broken(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path} can't be written: {error.strerror or error}; what was answered is kept: "
            "mend that and start the same command again"
        )


class Totals:
    """Tokens and seconds of the answers so far, which estimates are made from."""

    def __init__(self) -> None:
        self.number = self.tokens_in = self.tokens_out = 0
        self.seconds = 0.0

    def add(self, reply: Reply) -> None:
        """Count an answer."""
        self.number += 1
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        self.seconds += reply.seconds


def _line(text: bytes) -> tuple[str, Reply] | None:
    """Return key and answer, or None of a line that was cut short."""
    try:
        found: Any = json.loads(text)
        return str(found["key"]), Reply(
            str(found["text"]),
            int(found["tokens_in"]),
            int(found["tokens_out"]),
            float(found["seconds"]),
        )
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


# FOLDED once.py: Ask nothing twice: requests in, replies out, those that a journal holds and those that come.

R = TypeVar("R", bound=Request)


def ask_once(
    requests: Sequence[R], journal: Journal, ask: Ask, model: str
) -> list[tuple[R, Reply]]:
    """Ask what the journal doesn't hold, and return all replies in the order of the requests.

    Requests with the same key are one request.

    Raises:
        UserError: not one of the requests has a reply.
    """
    distinct = {request.key: request for request in requests}
    missing = [request for key, request in distinct.items() if key not in journal]
    if before := len(distinct) - len(missing):
        logger.info("journal    %d requests were answered before", before)
    failures = _ask(missing, before, journal, ask, model) if missing else Counter()
    held = [request for request in requests if request.key in journal]
    if failures:
        reason, _ = failures.most_common(1)[0]
        if not held:
            raise UserError(f"no request was answered; most often: {reason}")
        logger.warning(
            "%d of %d requests have no answer (most often: %s); the same command with "
            "--overwrite-output-dir asks them again, and nothing else",
            *(failures.total(), len(distinct), reason),
        )
    return [(request, journal.get(request.key)) for request in held]


def _ask(missing: Sequence[R], before: int, journal: Journal, ask: Ask, model: str) -> Counter[str]:
    """Ask, write each reply down, and return the reasons for which others have none."""
    failures: Counter[str] = Counter()
    began, tokens = time.perf_counter(), 0
    with progress.bar(before + len(missing), "asking", "request", initial=before) as shown:

        def answered(request: R, reply: Reply) -> None:
            nonlocal tokens
            journal.add(request, reply, model)
            tokens += reply.tokens_out
            shown.set_postfix_str(f"{tokens / (time.perf_counter() - began):.0f} tokens/s", False)
            shown.update()

        def failed(request: R, reason: str) -> None:  # noqa: ARG001
            failures[reason] += 1
            shown.update()

        ask(missing, answered, failed)
    return failures
