"""Read and write where passages were taken from, in columns of a table."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from dalm.io.cell_values import cell_text
from dalm.io.table import Table
from dalm.records import PROVENANCE, Passage

_LONGEST_NAME = 500  # characters of a document's or file's name; what is longer is its text


def provenance_columns(table: Table, claimed: Collection[str]) -> list[str]:
    """Return the columns that say where a passage was taken from, as `dalm passages` names them.

    A span and a page count from the beginning of something: without a column that names it they
    mean something else.
    """
    free = [name for name in PROVENANCE if name in table.columns and name not in claimed]
    if "document" not in free:
        free = [name for name in free if name not in ("start", "end")]
    if not {"document", "source"}.intersection(free):
        free = [name for name in free if name != "page"]
    return free


def provenance_of(cells: Mapping[str, object]) -> dict[str, Any]:
    """Return the provenance in a row's cells as fields of a passage; others are left out."""
    found: dict[str, Any] = {}
    for name, cell in cells.items():
        if name == "headings":
            value: object = _headings(cell)
        elif name in ("page", "start", "end"):
            value = _whole_number(cell)
        else:
            value = str(cell) if isinstance(cell, str | int) else None
            value = value if value and len(value) <= _LONGEST_NAME else None
        if value not in (None, "", ()):
            found[name] = value
    return found


def _headings(cell: object) -> tuple[str, ...]:
    if isinstance(cell, str) and cell.startswith("["):  # as a csv file holds a list
        try:
            cell = json.loads(cell)
        except ValueError:
            return (str(cell),)
    if isinstance(cell, str):
        return (cell,) if cell.strip() else ()
    return tuple(map(str, cell)) if isinstance(cell, list | tuple) else ()


def _whole_number(cell: object) -> int | None:
    if isinstance(cell, str) and cell.isascii() and cell.isdecimal():
        return int(cell)
    if isinstance(cell, float) and cell.is_integer():  # as whole numbers beside missing ones
        return int(cell)
    return cell if isinstance(cell, int) and not isinstance(cell, bool) else None


def extra_columns(table: Table, claimed: Collection[str]) -> list[str]:
    """Return the further columns of a table of passages that a passage keeps: plain values."""
    known = {*claimed, *PROVENANCE, "id", "_id"}
    return [name for name in table.plain if name not in known]


def extra_of(cells: Mapping[str, object]) -> dict[str, object]:
    """Return the cells that a passage keeps: texts, numbers and booleans, no empty ones."""
    found: dict[str, object] = {}
    for name, cell in cells.items():
        value = cell.isoformat() if isinstance(cell, datetime | date | time) else cell
        is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        if is_number or (isinstance(value, str) and value):
            found[name] = value
    return found


def columns_of_provenance(
    passages: Sequence[Passage], taken: Collection[str] = ()
) -> dict[str, list[object]]:
    """Return the provenance of a table's passages, row by row, as columns that readers find again.

    Columns in which nothing is known are left out, and so are further columns with a name that is
    `taken`.
    """
    rows = [passage.provenance() for passage in passages]
    names = dict.fromkeys(name for row in rows for name in row)
    further = [name for name in names if name not in PROVENANCE and name not in taken]
    columns: dict[str, list[object]] = {}
    for name in (*(name for name in PROVENANCE if name in names), *further):
        cells = [row.get(name) for row in rows]
        kinds = {type(cell) for cell in cells if cell is not None}
        # Parquet and saved datasets have one kind of value in a column.
        if len(kinds) > 1:
            cells = [None if cell is None else cell_text(cell) for cell in cells]
        columns[name] = cells
    return columns
