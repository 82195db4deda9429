"""Hold the paragraphs and tables of a Word file, as its parser finds them."""

from dataclasses import dataclass, field
from itertools import takewhile

from dalm.ingest.loaders.docx_styles import BODY_LEVEL, Style

MERGED_LENGTH = 80  # characters; a longer text of merged cells is in the first row alone
LINE_LENGTH = 200  # characters; a table of one column whose cells are longer is a frame


@dataclass(slots=True)
class Paragraph:
    """A paragraph with its number or bullet (`mark`); its text boxes and notes come `after`."""

    style: Style = field(default_factory=Style)
    style_id: str = ""
    parts: list[str] = field(default_factory=list)
    text: str = ""
    outline: int | None = None
    list_id: str = ""
    list_level: int | None = None
    mark: str = ""
    is_item: bool = False
    after: list["Piece"] = field(default_factory=list)
    goes_on: bool = False
    """Its end was deleted: it goes on in the next one."""
    hidden: bool = False
    """Whether the run that is being read is hidden."""
    font: str = ""
    """The font of that run, if it is one of symbols."""
    raised: bool = False
    """Whether that run is superscript."""

    @property
    def level(self) -> int:
        """Return its level as a heading; 0 if it is none."""
        if self.outline is not None:
            return self.outline + 1 if self.outline < BODY_LEVEL else 0
        return self.style.level or 0

    @property
    def marked(self) -> str:
        """Return its text as one line, after its number or bullet."""
        return " ".join(f"{self.mark} {self.text}".split())


@dataclass(slots=True)
class Cell:
    """A cell over `span` columns; it may go on from the cell above."""

    pieces: list["Piece"] = field(default_factory=list)
    span: int = 1
    goes_on: bool = False

    def text(self) -> str:
        """Return all its text as one line."""
        return " ".join(filter(None, map(_flat, self.pieces)))


@dataclass(slots=True)
class Row:
    """A row of cells."""

    cells: list[Cell] = field(default_factory=list)
    is_header: bool = False
    is_deleted: bool = False


@dataclass(slots=True)
class Table:
    """A table; `after` are the footnotes of its cells."""

    rows: list[Row] = field(default_factory=list)
    after: list["Piece"] = field(default_factory=list)

    @property
    def header_rows(self) -> int | None:
        """Return how many rows are marked as header; None without a mark."""
        return sum(1 for _ in takewhile(lambda row: row.is_header, self.rows)) or None

    @property
    def is_layout(self) -> bool:
        """Tell whether it is a frame: one column of long cells, or headings with text below."""
        cells = [cell for row in self.rows for cell in row.cells]
        if all(len(row.cells) <= 1 for row in self.rows):
            return len(cells) < 2 or any(
                len(cell.pieces) > 1 or len(cell.text()) > LINE_LENGTH for cell in cells
            )
        return any(
            len(cell.pieces) > 1 and any(isinstance(p, Paragraph) and p.level for p in cell.pieces)
            for cell in cells
        )

    def texts(self) -> list[list[str]]:
        """Return the cells' texts; a short text of cells merged downwards is in each of its rows.

        A cell over several columns is followed by empty ones.
        """
        found: list[list[str]] = []
        above: list[str] = []
        for row in self.rows:
            line: list[str] = []
            for cell in row.cells:
                text = cell.text()
                if cell.goes_on and not text and len(line) < len(above):
                    merged = above[len(line)]
                    text = merged if len(merged) <= MERGED_LENGTH else ""
                line += [text, *[""] * (cell.span - 1)]
            above = line
            found.append(line)
        return found


Piece = Paragraph | Table


def _flat(piece: Piece) -> str:
    """Return a piece of a cell as one line; of a table within it, the rows by semicolons."""
    if isinstance(piece, Table):
        return "; ".join(" ".join(filter(None, row)) for row in piece.texts())
    return piece.marked
