"""Read the two kinds of tables that reStructuredText draws."""

import re
import unicodedata
from collections.abc import Sequence

BORDER = re.compile(r"\+[-=+]+\+$")
COLUMN = re.compile(r"=+")
FILLER = "\0"  # follows a wide sign, so that columns can be counted
Table = tuple[list[list[str]], int, int]
"""Rows of cells, how many are the header, and the line after the table."""


def read_grid(lines: Sequence[str], at: int) -> Table:
    """Read a table with a border around each cell."""
    end = at
    while end < len(lines) and lines[end].startswith(("+", "|")):
        end += 1
    rows: list[list[str]] = []
    header, open_row = 0, False
    for line in lines[at:end]:
        if BORDER.match(line):
            header = len(rows) if "=" in line else header
            open_row = False
            continue
        cells = [cell.strip() for cell in re.split(r"[|+](?=\s|$|-)", line.strip("|"))]
        if open_row and len(cells) == len(rows[-1]):
            rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
        open_row = True
    return rows, header, end


def read_simple_table(lines: Sequence[str], at: int) -> Table:
    """Read a table whose columns are drawn by `===`; an empty first cell continues the row."""
    spans = [found.span() for found in COLUMN.finditer(lines[at])]
    borders = [at]
    end = at + 1
    while end < len(lines) and len(borders) < 3:
        if lines[end].startswith("==") and not lines[end].strip("= "):
            borders.append(end)
            if end + 1 >= len(lines) or not lines[end + 1]:
                break
        end += 1
    if len(borders) == 1:  # never closed
        return [[lines[at]]], 0, at + 1
    rows: list[list[str]] = []
    header = 0
    for place in range(at + 1, borders[-1]):
        line = lines[place]
        if place in borders:
            header = len(rows)
        elif line and line.strip("- "):
            cells = _cells(line, spans)
            if rows and not cells[0] and len(rows) > header:
                rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
            else:
                rows.append(cells)
    return rows, header, borders[-1] + 1


def _cells(line: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Cut a line at its columns; a cell over several, whose text is between them, too, is whole."""
    columns = "".join(f"{each}{FILLER * _is_wide(each)}" for each in line)
    cells = [""] * len(spans)
    first = 0
    for column, (_, stop) in enumerate(spans):
        after = spans[column + 1][0] if column + 1 < len(spans) else None
        if after is None or not columns[stop:after].strip():
            cells[first] = columns[spans[first][0] : after].replace(FILLER, "").strip()
            first = column + 1
    return cells


def _is_wide(sign: str) -> bool:
    """Tell whether a sign takes the place of two letters."""
    return not sign.isascii() and unicodedata.east_asian_width(sign) in "WF"
