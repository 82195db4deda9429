"""Define loaders: the files and options they take, and the documents they return."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

from dalm.config.shared import HtmlText
from dalm.io.text_lines import MEGABYTE


@dataclass(frozen=True, slots=True)
class File:
    """A file to load; `source` is what passages call it: its path below the folder given."""

    path: Path
    source: str
    size: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at `text[start:end]` of its document; level 1 is the highest."""

    start: int
    end: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A table, list or code at `text[start:end]` of its document, cut only between its units.

    `units` are the offsets at which its rows, items or lines begin, `start` the first of them. A
    table's header rows end at `header_end`: a passage that begins below them repeats them.
    """

    start: int
    end: int
    units: tuple[int, ...]
    header_end: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its structure.

    `source` names the file (and row) it was found in. `pages` are the offsets at which pages
    begin; empty without pages. Text before `begin` (front matter) is in no passage, nor are the
    spans `omitted` (comments, dotted lines of a table of contents), which are in order, none over
    another. `unread` says, a reason each, what of the file is not in the text: pages without a text
    layer, rows that could not be read.
    """

    text: str
    title: str
    source: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()
    begin: int = 0
    blocks: tuple[Block, ...] = ()
    omitted: tuple[tuple[int, int], ...] = ()
    unread: tuple[str, ...] = ()

    def excerpt(self, start: int, end: int) -> str:
        """Return `text[start:end]` without what is omitted."""
        kept, at = [], start
        first = bisect_right(self.omitted, start, key=itemgetter(1)) if self.omitted else 0
        for low, high in self.omitted[first:]:
            if low >= end:
                break
            kept.append(self.text[at : max(at, low)])
            at = max(at, high)
        kept.append(self.text[at:end])
        return "".join(kept)

    def blanked(self) -> str:
        """Return the text with a space for each character omitted, so that offsets are the same."""
        kept, at = [], 0
        for low, high in self.omitted:
            kept += [self.text[at:low], " " * (high - max(at, low))]
            at = max(at, high)
        return "".join((*kept, self.text[at:])) if kept else self.text

    def without(self, spans: Iterable[tuple[int, int]]) -> "Document":
        """Return the document with these spans omitted, too, and no heading that begins in one."""
        omitted = list[tuple[int, int]]()
        for start, end in sorted((*self.omitted, *spans)):
            if omitted and start <= omitted[-1][1]:
                omitted[-1] = omitted[-1][0], max(end, omitted[-1][1])
            elif end > self.begin:
                omitted.append((start, end))
        ends = [end for _, end in omitted]
        starts = [start for start, _ in omitted]
        headings = tuple(
            heading
            for heading in self.headings
            if (place := bisect_right(starts, heading.start)) == 0
            or heading.start >= ends[place - 1]
        )
        return replace(self, omitted=tuple(omitted), headings=headings)

    @property
    def id(self) -> str:
        """Return the content hash: 16 hexadecimal digits (64 bits) of the exact text."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, a row or a `part` of a document that could not be read, and why."""

    source: str
    reason: str
    part: bool = False
    """The rest of the document was read."""
    by_option: bool = False
    """It was read, but an option leaves it out."""


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """What a file doesn't say about itself, and how large it may be."""

    text_column: str | None = None
    """A column's name, or for some tables: see `dalm.io.columns.column_for`."""
    title_column: str | None = None
    encoding: str = "utf-8"
    max_bytes: int = 64 * MEGABYTE
    html: HtmlText = "main"
    several_tables: bool = False
    """There are other tables: a column that one of them lacks is looked for by its usual names."""


LoadDocument = Callable[[bytes, str, LoaderOptions], Document]
LoadRows = Callable[[Path, str, LoaderOptions], Iterator[Document | Skipped]]


@dataclass(frozen=True, slots=True)
class Loader:
    """A kind of file and the function that reads it; either `load` or `load_rows` is given.

    `load(data, source, options)` turns a file's bytes into one document; without a title it is
    given the file's name.
    `load_rows(path, source, options)` yields a document for each row of a table of any length.
    Both raise `dalm.io.text_lines.UnreadableError`, with the reason and the remedy, for a file that
    can't be read.
    """

    name: str
    label: str
    """What it is called in help and errors."""
    extensions: tuple[str, ...]
    """Lower case, with the dot."""
    load: LoadDocument | None = None
    load_rows: LoadRows | None = None
    extra: str | None = None
    """The optional dependencies it needs: pip install "indomain[EXTRA]"."""

    def __post_init__(self) -> None:
        """Check that there is one load function."""
        assert (self.load is None) != (self.load_rows is None), self.name
