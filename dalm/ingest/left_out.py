"""List the passages that are left out, with what they resemble."""

from array import array
from collections.abc import Iterable
from typing import IO, NamedTuple

from dalm.display import visible
from dalm.records import Passage

COLUMNS = ("source", "start", "end", "similarity", "kept", "kept_source", "passage")
SHOWN = 100  # characters of a passage


class Place(NamedTuple):
    """Where a passage was found."""

    document: str
    source: str
    start: int | None

    @classmethod
    def of(cls, passage: Passage) -> "Place":
        """Return where a passage was found."""
        return cls(passage.document, passage.source, passage.start)


class KeptPassages:
    """Remember the id, the source and the start of each passage written: some 24 bytes."""

    def __init__(self) -> None:
        self.ids = bytearray()
        self.starts = array("q")
        self.sources = array("l")
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def append(self, key: bytes, place: Place) -> None:
        """Add the next passage."""
        if place.source not in self._numbers:
            self._numbers[place.source] = len(self.names)
            self.names.append(place.source)
        self.ids += key
        self.starts.append(-1 if place.start is None else place.start)
        self.sources.append(self._numbers[place.source])

    def id(self, line: int) -> str:
        """Return the id of a passage."""
        return self.ids[8 * line : 8 * line + 8].hex()

    def source(self, line: int) -> str:
        """Return the source of a passage."""
        return self.names[self.sources[line]]

    def is_at(self, line: int, place: Place) -> bool:
        """Return whether a passage was found at this very place."""
        start = -1 if place.start is None else place.start
        return self.starts[line] == start and self.source(line) == place.source


class LeftOut:
    """Write a tsv of passages that are left out; without a file they are counted only."""

    def __init__(self, file: IO[str] | None) -> None:
        self.file = file
        self.count = 0
        self._write(COLUMNS)

    def add(self, passage: Passage, similarity: float, kept: str, kept_source: str) -> None:
        """List a passage and what it resembles: a passage by its id, or a document's source."""
        self.count += 1
        text = passage.text if len(passage.text) <= SHOWN else f"{passage.text[:SHOWN]}…"
        row = (passage.source, passage.start, passage.end, f"{similarity:.2f}", kept, kept_source)
        self._write((*row, " ".join(text.split())))

    def _write(self, row: Iterable[object]) -> None:
        if self.file:
            cells = ("" if cell is None else visible(str(cell)) for cell in row)
            self.file.write("\t".join(cells) + "\n")
