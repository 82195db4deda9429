"""Put the lines of a PDF page into reading order.

Most programs draw a page in the order in which it is read, columns and boxes included, and that
order is kept. Some draw row by row across the columns, or in no order: then the columns are found
by the gap between them, and what doesn't stand in columns is sorted from top to bottom.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean

from dalm.ingest.loaders.pdf_lines import CELL_GAP, GLUED, Cell, Line

COLUMN_LINES = 6  # lines that a column has at least
FILLED = 0.8  # of a column's width: lines of prose reach it, cells of a table seldom do
WORDS = 4  # words of a line of prose, on average
MESSY = 0.25  # of the lines stand above the one before: drawn in no order
SWAPPED = 4.0  # times the font's size: how far below a line others may be drawn before it
BESIDE = 1.7  # the same for lines beside it


def reading_order(lines: Sequence[Line], *, drawn_in_order: bool = True) -> list[Line]:
    """Return a page's lines as they are read, pieces of a row joined; turned ones come last."""
    upright = [line for line in lines if not line.turned]
    upwards = _steps_up(upright) > max(2, len(upright) / 2)  # PDFium reads turned pages so
    drawn = upright if drawn_in_order and not upwards else _sorted(upright)
    upright = _put_right(drawn) if drawn is upright else drawn
    return join_rows(_ordered(upright, drawn)) + [line for line in lines if line.turned]


def _ordered(lines: Sequence[Line], drawn: Sequence[Line]) -> list[Line]:
    gutter = find_gutter(lines)
    if gutter is not None:
        return _by_columns(lines, gutter) if _is_drawn_by_row(drawn, gutter) else list(lines)
    return _sorted(lines) if _steps_up(lines) > max(2, MESSY * len(lines)) else list(lines)


def _steps_up(lines: Sequence[Line]) -> int:
    """Return how many lines stand above the one that is drawn before them."""
    return sum(
        b.bottom > a.top and b.left < a.right and a.left < b.right for a, b in pairwise(lines)
    )


def _put_right(lines: Sequence[Line]) -> list[Line]:
    """Put a line before those that are drawn before it but stand below it, or below and beside it.

    The latter are the cells of a row, of which one begins above the others.
    """
    found: list[Line] = []
    for line in lines:
        at = len(found)
        while at and _is_out_of_order(found[at - 1], line):
            at -= 1
        found.insert(at, line)
    return found


def _is_out_of_order(one: Line, other: Line) -> bool:
    up = other.bottom - one.bottom
    if up < 0.5 * other.size:
        return False
    overlaps = other.left < one.right and one.left < other.right
    return up < (SWAPPED if overlaps else BESIDE) * other.size


def find_gutter(lines: Sequence[Line]) -> float | None:
    """Return the left edge of a page's second column of prose; None without columns."""
    cells = [cell for line in lines for cell in line.cells]
    if len(cells) < 2 * COLUMN_LINES:
        return None
    edges = Counter(round(cell.left / 3) for cell in cells if cell.text.count(" ") > 1)
    leftmost = min(cell.left for cell in cells)
    for edge, count in sorted(edges.most_common(6)):
        at = 3.0 * edge - 3
        if count >= COLUMN_LINES and at > leftmost + 60:
            left = [cell for cell in cells if cell.right < at]
            right = [cell for cell in cells if cell.left >= at]
            spanning = len(cells) - len(left) - len(right)
            if spanning * 2 < len(left) + len(right) and _is_prose(left) and _is_prose(right):
                return at
    return None


def _is_prose(cells: Sequence[Cell]) -> bool:
    """Tell whether cells are the lines of one or several columns of prose."""
    long = [cell for cell in cells if cell.text.count(" ") + 1 >= WORDS]
    if len(long) < COLUMN_LINES or 2 * len(long) < len(cells):
        return False
    widths = sorted(cell.right - cell.left for cell in long)
    width = widths[int(0.9 * len(widths))]
    words = mean(cell.text.count(" ") + 1 for cell in cells)
    return words >= WORDS and sum(each >= FILLED * width for each in widths) * 2 >= len(cells)


def _is_drawn_by_row(lines: Sequence[Line], gutter: float) -> bool:
    """Tell whether the lines of both columns follow each other row by row.

    Cells of a table that take several lines do not: each is drawn as a whole.
    """
    sides = [_side(line, gutter) for line in lines]
    whole, changes = sides.count(0), sum(a * b < 0 for a, b in pairwise(sides))
    fewer = min(sides.count(-1), sides.count(1))
    return 2 * (whole + changes) >= 3 * fewer + 2 * whole > 0


def _side(line: Line, gutter: float) -> int:
    """Return −1 for a line left of a gutter, 1 right of it, 0 on both sides, 2 across it."""
    if line.right < gutter:
        return -1
    if line.left >= gutter:
        return 1
    return 2 if any(cell.left < gutter <= cell.right for cell in line.cells) else 0


def _by_columns(lines: Sequence[Line], gutter: float) -> list[Line]:
    """Return the lines column by column, from one line across the gutter to the next."""
    found: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []

    def end_band() -> None:
        found.extend(left)
        found.extend(_ordered(right, right))
        left.clear()
        right.clear()

    for line in _sorted(lines):
        side = _side(line, gutter)
        if side == 2:
            end_band()
            found.append(line)
            continue
        for cells, column in (
            ([cell for cell in line.cells if cell.right < gutter], left),
            ([cell for cell in line.cells if cell.left >= gutter], right),
        ):
            if cells:
                ends_line = cells[-1] is line.cells[-1]
                column.append(replace(line, cells=cells, hyphen=line.hyphen and ends_line))
    end_band()
    return found


def _sorted(lines: Sequence[Line]) -> list[Line]:
    """Return lines from top to bottom, those of a row from left to right."""
    return [line for row in rows_of(lines) for line in sorted(row, key=lambda line: line.left)]


def rows_of(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the rows of a page from top to bottom, each the lines that stand beside each other."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: -line.bottom):
        if rows and is_same_row(rows[-1][0], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return rows


def is_same_row(one: Line, other: Line) -> bool:
    """Tell whether two lines stand beside each other, a superscript included."""
    overlap = min(one.top, other.top) - max(one.bottom, other.bottom)
    return overlap > 0.5 * min(one.top - one.bottom, other.top - other.bottom)


def join_rows(lines: Sequence[Line]) -> list[Line]:
    """Join lines that follow each other in a row: cells of a table, sub- and superscripts."""
    rows: list[Line] = []
    for line in lines:
        previous = rows[-1] if rows else None
        if (
            previous is not None
            and line.left >= previous.right - 0.5 * line.size
            and not previous.hyphen
            and is_same_row(previous, line)
        ):
            rows[-1] = _joined(previous, line)
        else:
            rows.append(line)
    return rows


def _joined(one: Line, other: Line) -> Line:
    main = one if one.size >= other.size else other
    gap = other.left - one.right
    cells = [*one.cells]
    if gap > CELL_GAP * main.size:
        cells += other.cells
    else:
        last, first = cells.pop(), other.cells[0]
        text = last.text + _between(one, other, gap) + first.text
        cells += [Cell(text, last.left, first.right), *other.cells[1:]]
    return replace(
        main,
        cells=cells,
        hyphen=other.hyphen,
        bold=one.bold and other.bold,
        mono=one.mono and other.mono,
        uniform=one.uniform and (one.size, one.font) == (other.size, other.font),
    )


def _between(one: Line, other: Line, gap: float) -> str:
    """Return what parts two pieces of a row: a power is not to be read as a digit of its base."""
    if gap > GLUED * max(one.size, other.size):
        return " "
    raised = other.size < 0.85 * one.size and other.bottom > one.bottom + 0.2 * one.size
    power = raised and one.text[-1].isdigit() and other.text[0] in "0123456789-−+"
    return "^" if power else ""
