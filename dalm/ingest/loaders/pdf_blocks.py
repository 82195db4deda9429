"""Recognise code and the rows of tables among the lines of a PDF page."""

import re
from collections.abc import Sequence
from itertools import pairwise

from dalm.ingest.loaders.pdf_lines import Cell, Line

SENTENCE_END = re.compile(r"[.!?:;。！？][\"'”’»)\]]*$")
TABLE_ROWS = 3  # at least
ALIGNED = 3.0  # points
SHORT = 80  # characters of a row in which no gap shows


def follows(one: Line, other: Line) -> bool:
    """Tell whether a line stands right below another, in the same column and size."""
    down = one.bottom - other.bottom
    return (
        0 < down <= 2.2 * max(one.size, other.size)
        and abs(one.size - other.size) <= 0.15 * max(one.size, other.size)
        and other.left < one.right
        and one.left < other.right
        and one.turned == other.turned
    )


# Code


def is_code(lines: Sequence[Line], i: int) -> bool:
    """Tell whether a line in a monospaced font is code, and no line of prose with names in it."""
    line = lines[i]
    if not line.mono or line.level:
        return False
    previous = lines[i - 1] if i else None
    if previous is None or previous.mono or not follows(previous, line):
        return True
    is_prose = abs(previous.left - line.left) < 2 and not SENTENCE_END.search(previous.text)
    return not is_prose


def continues_code(lines: Sequence[Line], i: int) -> bool:
    """Tell whether a line goes on with the code of the line before."""
    one, other = lines[i - 1], lines[i]
    below = 0 < one.bottom - other.bottom <= 3.5 * one.size
    return other.mono and not other.level and other.size == one.size and below


def code_text(lines: Sequence[Line]) -> list[str]:
    """Return lines of code with the spaces that indent them and part their words."""
    left = min(line.left for line in lines)
    texts = []
    for line in lines:
        width = max(1.0, 0.6 * line.size)
        text, end = "", left
        for cell in line.cells:
            text += " " * max(bool(text), round((cell.left - end) / width)) + cell.text
            end = cell.right
        texts.append(text)
    return texts


# Tables


def table_lines(lines: Sequence[Line]) -> dict[int, int]:
    """Return the first lines of tables with the lines behind their last ones."""
    tables: dict[int, int] = {}
    i = 0
    while i < len(lines):
        end = i
        rows = 0
        while end < len(lines) and _is_row(lines, i, end):
            rows += len(lines[end].cells) > 1
            end += 1
        while end > i and len(lines[end - 1].cells) < 2 and not _is_near(lines, end - 1):
            end -= 1
        if rows >= TABLE_ROWS and _is_aligned(lines[i:end]):
            tables[i] = end
        i = max(end, i + 1)
    return tables


def _is_near(lines: Sequence[Line], i: int) -> bool:
    """Tell whether a line stands right below the one before, as another line of its cell."""
    above, line = lines[i - 1], lines[i]
    shift = ALIGNED if len(above.cells) > 1 else -ALIGNED
    return above.bottom - line.bottom < 1.5 * line.size and line.left > above.left + shift


def _is_row(lines: Sequence[Line], first: int, i: int) -> bool:
    line = lines[i]
    if line.turned or line.level or line.hyphen:
        return False
    if i == first:
        return len(line.cells) > 1
    above = lines[i - 1]
    down = above.bottom - line.bottom
    if not 0 < down <= 3.5 * line.size:
        return False
    if len(line.cells) > 1:
        return True
    row = next(each for each in reversed(lines[first:i]) if len(each.cells) > 1)
    if line.left > row.cells[1].left - ALIGNED:
        return True  # another line of a cell
    following = lines[i + 1 : i + 2]
    between_rows = len(above.cells) > 1 and following and len(following[0].cells) > 1
    return bool(between_rows) and _starts_row(above, line) and len(line.text) < SHORT


def _starts_row(above: Line, line: Line) -> bool:
    return abs(above.left - line.left) <= ALIGNED


def _is_aligned(lines: Sequence[Line]) -> bool:
    """Tell whether the cells of most rows stand below those of the row before."""
    rows = [line for line in lines if len(line.cells) > 1]
    aligned = 0
    for one, other in pairwise(rows):
        same = sum(any(_in_line(a, b) for a in one.cells) for b in other.cells)
        aligned += same >= 2
    return 4 * aligned >= 3 * (len(rows) - 1)


def _in_line(a: Cell, b: Cell) -> bool:
    left = abs(a.left - b.left)
    right = abs(a.right - b.right)
    return min(left, right, abs(a.left + a.right - b.left - b.right) / 2) <= ALIGNED


def table_rows(lines: Sequence[Line]) -> list[str]:
    """Return the rows of a table, cells parted by tabs; a cell's other lines are joined to it.

    They belong to the nearer of the rows above and below them.
    """
    rows = [i for i, line in enumerate(lines) if len(line.cells) > 1 or _begins_row(lines, i)]
    cells = {i: [cell.text for cell in lines[i].cells] for i in rows}
    beside = {i: _row_of(lines, i, rows) for i in range(len(lines)) if i not in cells}
    for i, row in beside.items():
        if row < i:
            cells[row][_nearest(lines[i], lines[row])] += f" {lines[i].text}"
    for i, row in reversed(beside.items()):
        if row > i:
            place = _nearest(lines[i], lines[row])
            cells[row][place] = f"{lines[i].text} {cells[row][place]}"
    return ["\t".join(texts) for texts in cells.values()]


def _row_of(lines: Sequence[Line], i: int, rows: Sequence[int]) -> int:
    """Return the row that a line between rows belongs to: the widest gap parts the rows."""
    above = max((row for row in rows if row < i), default=None)
    below = min((row for row in rows if row > i), default=None)
    if above is None or below is None:
        row = above if below is None else below
        assert row is not None, "a table has rows"
        return row
    gaps = [lines[at].bottom - lines[at + 1].bottom for at in range(above, below)]
    widest = above + len(gaps) - 1 - gaps[::-1].index(max(gaps))
    return above if i <= widest else below


def _begins_row(lines: Sequence[Line], i: int) -> bool:
    """Tell whether a line without a gap is a row: it stands where the row above begins."""
    above = next((line for line in reversed(lines[:i]) if len(line.cells) > 1), None)
    return above is not None and lines[i].left <= above.left + ALIGNED


def _nearest(line: Line, row: Line) -> int:
    distances = [abs(cell.left - line.left) for cell in row.cells]
    return distances.index(min(distances))
