"""Cache scores in a file that is only appended to."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Self

from dalm.artifacts import claim, explained

logger = logging.getLogger(__name__)

KEY_BYTES = 16
_KEPT = "fix that and start the same command again: scores so far are kept"


def pair_key(query: str, answer: str | None, passage: str) -> bytes:
    """Return the hash of a question, its answer and a passage, exactly as they are written."""
    parts = [part.encode("utf-8", "surrogatepass") for part in (query, answer or "", passage)]
    lengths = " ".join(str(len(part)) for part in parts)
    return blake2b(b"\n".join([lengths.encode(), *parts]), digest_size=KEY_BYTES).digest()


def _pair_of(line: bytes) -> tuple[bytes, float] | None:
    """Return the key and the score in a line; None if it is damaged."""
    key, _, score = line.partition(b" ")
    with suppress(ValueError):
        found, value = bytes.fromhex(key.decode()), float(score)
        if len(found) == KEY_BYTES and math.isfinite(value):
            return found, value
    return None


class ScoreCache:
    """Hold scores by their keys, and append new ones to a file.

    A line is a key and a score; those of a batch are written together. A killed process loses at
    most the batch that it was scoring; a line that was cut off is dropped when the file is opened
    again. Without a file nothing is read or written. `option` is what names the file's folder.
    Files of `others`, which may still be written, are read only.

    Raises UserError when another process has the file open, or it can't be written.
    """

    def __init__(
        self, path: Path | None, option: str = "--cache-dir", others: Sequence[Path] = ()
    ) -> None:
        self.path, self.option, self.others = path, option, others
        self._scores: dict[bytes, float] = {}
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        if self.path is None:
            return self
        with ExitStack() as opened:
            opened.enter_context(claim(self.path, self.option))
            with explained(self.path, _KEPT):
                self._file = opened.enter_context(self.path.open("a+b", buffering=0))
                self._file.seek(0)
                content = self._file.read()
                whole = content.rfind(b"\n") + 1
                self._file.truncate(whole)  # half a score would be another score
                read = [each.read_bytes() for each in self.others if each.is_file()]
            self._opened = opened.pop_all()
        for each in (*read, content):
            self._read(each[: each.rfind(b"\n") + 1])
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def __contains__(self, key: bytes) -> bool:
        return key in self._scores

    def get(self, key: bytes) -> float | None:
        """Return the score of a key; None if there is none."""
        return self._scores.get(key)

    def add(self, scores: Mapping[bytes, float]) -> None:
        """Keep the scores of a batch."""
        self._scores |= scores
        if self.path is not None:
            lines = "".join(f"{key.hex()} {score!r}\n" for key, score in scores.items())
            with explained(self.path, _KEPT):
                self._write(lines.encode())

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]

    def _read(self, content: bytes) -> None:
        lines = content.splitlines()
        scores = [pair for pair in map(_pair_of, lines) if pair is not None]
        if damaged := len(lines) - len(scores):
            logger.warning("%s: %d scores are damaged; they are scored again", self.path, damaged)
        self._scores |= dict(scores)

    def log(self, teacher: str, pairs: int, missing: int) -> None:
        """Log how many scores are cached."""
        where = f" ({self.path})" if self.path else ""
        logger.info(
            "scores     %s: %d candidates, %d from the cache, %d to be scored%s",
            *(teacher, pairs, pairs - missing, missing, where),
        )
