"""Build a document's text piece by piece: paragraphs, headings, tables, lists and code."""

import re
from collections import Counter
from collections.abc import Sequence

from dalm.ingest.loaders.loader import Block, Document, Heading
from dalm.ingest.loaders.text import HEADING_LENGTH

HEADER_CELL_LENGTH = 60  # characters; a longer cell is no column's name
DIGIT = re.compile(r"\d")


class DocumentBuilder:
    """Collect the pieces of a document in reading order, an empty line between them.

    A table's row and a list's item are a line each: line ends inside them become spaces. Cells are
    parted by a tab. Empty pieces are left out.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.headings: list[Heading] = []
        self.blocks: list[Block] = []
        self.pages: list[int] = []
        self.lost: Counter[tuple[str, str]] = Counter()

    def _add(self, text: str, gap: str = "\n\n") -> int:
        """Append a piece and return where it begins."""
        if self.parts:
            self.parts.append(gap)
            self.length += len(gap)
        start = self.length
        self.parts.append(text)
        self.length += len(text)
        return start

    def paragraph(self, text: str) -> None:
        """Add a paragraph; its line ends stay."""
        if text := text.strip():
            self._add(text)

    def heading(self, text: str, level: int) -> None:
        """Add a heading of this level; one too long for a heading is a paragraph."""
        title = " ".join(text.split())
        if len(title) > HEADING_LENGTH:
            self.paragraph(text)
        elif title:
            start = self._add(title)
            self.headings.append(Heading(start, self.length, level, title))

    def page(self) -> None:
        """Begin a page with the next piece."""
        self.pages.append(self.length + 2 * bool(self.parts))

    def table(self, rows: Sequence[Sequence[str]], header_rows: int | None = None) -> None:
        """Add a table; without `header_rows` its first row is the header if it looks like one."""
        cells = [[" ".join(cell.split()) for cell in row] for row in rows]
        named = header_rows if header_rows is not None else int(is_header(cells))
        header = sum(any(row) for row in cells[:named])
        self._lines(["\t".join(row).rstrip() for row in cells if any(row)], header)

    def items(self, items: Sequence[str]) -> None:
        """Add a list of items, each with its mark, indented by two spaces a level."""
        lines = [item.replace("\n", " ").rstrip() for item in items]
        self._lines([line for line in lines if line.strip()])

    def code(self, text: str) -> None:
        """Add lines of code as they are."""
        self._lines(text.strip("\n").rstrip().split("\n"))

    def lose(self, what: str, remedy: str) -> None:
        """Report that a thing of this kind is not in the text."""
        self.lost[what, remedy] += 1

    def _lines(self, lines: Sequence[str], header: int = 0) -> None:
        if not any(lines):
            return
        units = []
        for number, line in enumerate(lines):
            units.append(self._add(line, "\n" if number else "\n\n"))
        header_end = units[header] if 0 < header < len(lines) else 0
        self.blocks.append(Block(units[0], self.length, tuple(units), header_end))

    def document(self, title: str, source: str) -> Document:
        """Return the document; without a title it has that of its first heading of level 1."""
        first = next((each.text for each in self.headings if each.level == 1), "")
        return Document(
            "".join(self.parts),
            title or first,
            source,
            tuple(self.headings),
            pages=tuple(each for each in self.pages if each < self.length),
            blocks=tuple(self.blocks),
            unread=tuple(_reason(*lost, number) for lost, number in self.lost.items()),
        )


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first row names the columns: cells short, all different, no figures."""
    if len(rows) < 2:
        return False
    first = rows[0]
    names = [cell for cell in first if cell]
    return (
        len(names) > 1
        and len(names) >= len(first) - 1  # the first column often has no name
        and len(set(names)) == len(names)
        and all(len(cell) <= HEADER_CELL_LENGTH and not DIGIT.search(cell) for cell in names)
    )


def _reason(what: str, remedy: str, number: int) -> str:
    """Return what is not in the text and how often: `2 × chart: ...`."""
    return f"{f'{number} × ' if number > 1 else ''}{what}: {remedy}"
