"""The file of passages: what is new goes behind what is there, and replaces it as a whole."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dalm.errors import UserError
from dalm.ingest.ingestion import Cut

if TYPE_CHECKING:
    from dalm.ingest.near_duplicates import NearDuplicates

BLOCK = 1024  # lines whose signatures are computed together


@dataclass(slots=True)
class Counts:
    """What a file of passages has come to."""

    there: int = 0
    """Passages that were in the file before."""
    lost: int = 0
    """Of these, passages that the documents don't hold any more."""
    new: int = 0
    again: int = 0
    """Passages met once more: of the file before, or of these documents."""
    near: int = 0
    """Near duplicates left out."""
    documents: int = 0
    short: int = 0
    empty: int = 0


class PassageFile:
    """Write passages that weren't met before, in a file beside the target until `commit`.

    Lines that are there stay as they are, to the byte, and new ones follow. A killed run leaves
    the target as it was.
    """

    def __init__(self, path: Path, near: "NearDuplicates | None") -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self.near = near
        self.counts = Counts()
        self._met: set[bytes] = set()
        self._before: set[bytes] = set()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "PassageFile":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.partial.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self.partial.unlink(missing_ok=True)

    def keep_what_is_there(self) -> Iterator[int]:
        """Copy the lines of the target, and yield the bytes done.

        Raises:
            UserError: a line that holds no passage.
        """
        with self.path.open("rb") as before:
            block: list[bytes] = []
            for number, line in enumerate(before, 1):
                block.append(line if line.endswith(b"\n") else line + b"\n")
                if len(block) == BLOCK:
                    yield self._copy(block, number)
                    block = []
            if block:
                yield self._copy(block, number)

    def _copy(self, lines: list[bytes], last: int) -> int:
        texts = []
        for number, line in enumerate(lines, last - len(lines) + 1):
            try:
                row = json.loads(line)
                key, text = bytes.fromhex(row["id"]), row["Passage"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}, line {number}: no passage of this command's; name another "
                    "--output, or add --overwrite-output to make it anew"
                ) from error
            self._before.add(key)
            texts.append(text)
        if self.near:
            from dalm.ingest.near_duplicates import signatures

            self.near.add(signatures(texts))
        self._write(lines)
        self.counts.there += len(lines)
        self.counts.lost = len(self._before)
        return sum(map(len, lines))

    def add(self, cut: Cut) -> None:
        """Write a cut's new passages, and count the others."""
        counts = self.counts
        counts.documents += cut.documents
        counts.short += cut.short
        counts.empty += cut.empty
        fresh = [place for place, passage in enumerate(cut.ids) if self._is_new(passage)]
        counts.again += len(cut.ids) - len(fresh)
        if self.near is not None and cut.signatures is not None and fresh:
            is_new = self.near.add(cut.signatures[fresh])
            counts.near += len(fresh)
            fresh = [place for place, new in zip(fresh, is_new, strict=True) if new]
            counts.near -= len(fresh)
        counts.new += len(fresh)
        self._write([cut.lines[place] for place in fresh])

    def _is_new(self, passage: str) -> bool:
        """Tell whether a passage is met for the first time, by its id."""
        key = bytes.fromhex(passage)
        if key in self._met:
            return False
        self._met.add(key)
        if key in self._before:
            self.counts.lost -= 1
            return False
        return True

    def _write(self, lines: list[bytes]) -> None:
        assert self._file is not None
        try:
            self._file.writelines(lines)
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; nothing was changed") from error

    def commit(self) -> None:
        """Put the new file in the place of the old one, in one step."""
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; nothing was changed") from error
        self._file.close()
        self._file = None
        self.partial.replace(self.path)
