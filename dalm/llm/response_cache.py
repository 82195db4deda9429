"""Cache a language model's replies in a journal on disk, so that no request is sent twice."""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import blake2b
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

from dalm import file_reading, progress, stop_signals
from dalm.artifacts import claim, claim_free, claimed_beside
from dalm.errors import UserError
from dalm.llm.language_model import LanguageModel, ModelError, Reply, Request
from dalm.llm.thoughts import without_thoughts

logger = logging.getLogger(__name__)


class Keyed(Protocol):
    """What a reply is kept for; the reply to another with the same `key` is its reply too."""

    @property
    def key(self) -> str:
        """A hash of all that a reply depends on, `cache_key`."""

    @property
    def about(self) -> Mapping[str, str]:
        """What the journal holds of it beside its key, for people who read it."""


class CachedRequest(Request, Keyed, Protocol):
    """A request whose reply is kept."""


R = TypeVar("R", bound=CachedRequest)


def cache_key(*parts: Any) -> str:
    """Return a hash of what a reply depends on: 32 hexadecimal digits of the parts as JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def without_length(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a whole reply depends on: how long it may be isn't one.

    So a higher limit asks again for the replies that were cut off, and no others.
    """
    return {name: value for name, value in parameters.items() if name != "max_tokens"}


def limit_of(model: LanguageModel) -> int:
    """Return how many tokens a model's replies may have; 0: any number."""
    return int(model.parameters.get("max_tokens") or 0)


class Journal:
    """A file with a line of JSON for each reply; lines are appended, never changed.

    Each line is flushed to disk (fsync) before the next, so a killed process or a power failure
    loses at most the reply being written. Only the offsets of the lines are held in memory.
    A reply without an answer in it (empty, or reasoning alone) counts as none, for a server may
    give another next time, unless `keep_empty`.

    A `shared` journal is one of runs at the same time: each writes to a file of its own, beside
    `path` if that is held, and reads those of all.

    Raises UserError when another run is writing to the same file, or it can't be written.
    """

    def __init__(self, path: Path, *, keep_empty: bool = False, shared: bool = False) -> None:
        self.path, self.keep_empty = path, keep_empty
        self.replies = Totals()
        self._places: dict[str, _Place] = {}
        self._truncated: dict[str, int] = {}
        with ExitStack() as opened:
            if shared:
                self.path = opened.enter_context(claim_free(path))
            else:
                opened.enter_context(claim(path))
            self.others = [each for each in claimed_beside(path) if shared and each != self.path]
            try:
                for each in self.others:
                    self._read(opened.enter_context(each.open("rb", buffering=0)))
                self._file = opened.enter_context(self.path.open("a+b", buffering=0))
                self._incomplete = self._read(self._file)
            except OSError as error:
                raise self._broken(error) from error
            self._opened = opened.pop_all()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, request: Keyed, reply: Reply, model: str) -> None:
        """Append a reply."""
        line: dict[str, Any] = {"key": request.key, **request.about, "model": model}
        line |= {name: getattr(reply, name) for name in Reply.__slots__}
        text = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            if self._incomplete:
                self._write(b"\n")
                self._incomplete = False
            offset = self._file.seek(0, os.SEEK_END)
            try:
                self._write(text)
                os.fsync(self._file.fileno())
            except BaseException:
                with suppress(OSError):  # no part of a line stays
                    self._file.truncate(offset)
                raise
        except OSError as error:
            raise self._broken(error) from error
        self._index(request.key, reply, _Place(self._file, offset))

    def answers(self, request: CachedRequest, limit: int = 0) -> bool:
        """Return whether the reply to a request is there, and whole where JSON was asked for.

        A free text that was cut off at fewer tokens than `limit` isn't there.
        """
        if request.key not in self._truncated:
            return request.key in self._places
        is_text = request.response_format is None
        return is_text and not 0 < self._truncated[request.key] < limit

    def _index(self, key: str, reply: Reply, place: "_Place") -> None:
        """Keep where a reply is; a whole one stays, a truncated one makes way for the next."""
        if key not in self._places or key in self._truncated:
            self._places[key] = place
            self._truncated.pop(key, None)
            if reply.finish_reason == "length":
                self._truncated[key] = reply.tokens_out
        self.replies.add(reply)

    def get(self, key: str) -> Reply:
        """Return the reply to a request."""
        place = self._places[key]
        buffered = BufferedReader(place.file)
        buffered.seek(place.offset)
        line = _line(buffered.readline())
        buffered.detach()
        assert line is not None, f"{self.path} was changed while it was read"
        return line[1]

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]

    def _read(self, file: FileIO) -> bool:
        """Index the lines, and return whether the last one is incomplete.

        That of another run may still be written.
        """
        broken, offset, line = 0, 0, b"\n"
        file.seek(0)
        buffered = BufferedReader(file)
        for line in buffered:
            if found := _line(line):
                if self.keep_empty or without_thoughts(found[1].text).strip():
                    self._index(*found, _Place(file, offset))
            elif line.strip():
                broken += line.endswith(b"\n") or file.writable()
            offset += len(line)
        buffered.detach()
        if broken:
            logger.info("journal    %d lines are damaged; their requests are sent again", broken)
        return not line.endswith(b"\n")

    def _broken(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path} can't be written: {error.strerror or error}; replies so far are kept: "
            "fix that and start the same command again"
        )


class _Place(NamedTuple):
    """Where a line begins."""

    file: FileIO
    offset: int


class Totals:
    """Tokens and seconds of the replies so far, for estimates."""

    def __init__(self) -> None:
        self.number = self.tokens_in = self.tokens_out = 0
        self.seconds = 0.0

    def add(self, reply: Reply) -> None:
        """Count a reply."""
        self.number += 1
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        self.seconds += reply.seconds


@dataclass(frozen=True)
class _Line:
    key: str
    text: str
    tokens_in: Annotated[int, 0]
    tokens_out: Annotated[int, 0]
    seconds: Annotated[float, 0]
    finish_reason: str = "stop"


def _line(text: bytes) -> tuple[str, Reply] | None:
    """Return key and reply, or None for a damaged line."""
    try:
        found = file_reading.record_from(file_reading.parse_json(text), _Line, "")
    except (ValueError, TypeError):
        return None
    reply = Reply(found.text, found.tokens_in, found.tokens_out, found.seconds, found.finish_reason)
    return found.key, reply


def cached_replies(
    model: LanguageModel,
    requests: Sequence[R],
    journal: Journal,
    resume: str,
    unit: str = "replies",
    *,
    all_may_fail: bool = False,
) -> list[tuple[R, Reply]]:
    """Return the replies in the order of the requests, generating those the journal lacks.

    Requests with the same key are sent once. `resume` is what sends those again that failed, for
    the warning; `unit` is what the bar counts them as. `all_may_fail`: others had replies.

    Raises:
        UserError: not one of the requests has a reply.
    """
    distinct = {request.key: request for request in requests}
    limit = limit_of(model)
    missing = [request for request in distinct.values() if not journal.answers(request, limit)]
    if cached := len(distinct) - len(missing):
        logger.info("journal    %d of %d replies are cached", cached, len(distinct))
    with stop_signals.explaining(lambda: f"; {len(journal)} replies are kept: {resume} goes on"):
        failures = _generate(model, missing, cached, journal, unit) if missing else Counter()
    replied = [request for request in requests if request.key in journal]
    if failures:
        reason, _ = failures.most_common(1)[0]
        if not replied and not all_may_fail:
            raise UserError(f"no request got a reply; most often: {reason}")
        logger.warning(
            "%d of %d requests got no reply (most often: %s); %s sends these again, no others",
            *(failures.total(), len(distinct), reason, resume),
        )
    found = [(request, journal.get(request.key)) for request in replied]
    _tell_of_truncated(model, found, resume)
    return found


def _tell_of_truncated(
    model: LanguageModel, replies: Sequence[tuple[CachedRequest, Reply]], resume: str
) -> None:
    cut = [request for request, reply in replies if reply.finish_reason == "length"]
    if not cut:
        return
    what = f"%d of %d replies were cut off: raise {model.length_option}"
    if cut[0].response_format is not None:
        what += (
            ", or the server's own limit; what is whole in them is used, and "
            f"{resume} asks for them again"
        )
    logger.warning(what, len(cut), len(replies))


def _generate(
    model: LanguageModel, missing: Sequence[R], cached: int, journal: Journal, unit: str
) -> Counter[str]:
    """Generate replies, write each to the journal, and count the reasons of those that failed."""
    failures: Counter[str] = Counter()
    start, tokens = time.perf_counter(), 0
    total = cached + len(missing)
    with progress.Bar(total, "generating", unit, initial=cached) as bar:

        def on_reply(request: R, reply: Reply) -> None:
            nonlocal tokens
            journal.add(request, reply, model.name)
            tokens += reply.tokens_out
            bar.note = f"{tokens / (time.perf_counter() - start):.0f} tokens/s"
            bar.update()

        def on_failure(request: R, error: ModelError) -> None:  # noqa: ARG001
            failures[str(error)] += 1
            bar.update()

        model.generate(missing, on_reply, on_failure)
    return failures
