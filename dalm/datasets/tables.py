"""Turn tables into records: a source and its columns' names in, examples or passages out."""

import logging
import math
from collections.abc import Callable, Collection
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from dalm.datasets.formats import Table
from dalm.datasets.sources import read_table
from dalm.errors import UserError
from dalm.records import Example, Passage
from dalm.settings import Columns, PairColumns

logger = logging.getLogger(__name__)

Field = Literal["query", "passage", "answer"]
Role = Literal["query", "passage", "answer", "title"]

OLDER_NAMES: dict[Role, tuple[str, ...]] = {
    "passage": ("Abstract", "Context"),
    "query": ("Question",),
    "answer": (),
    "title": (),
}


def read_examples(
    source: str | Path,
    columns: PairColumns,
    *,
    needs: Collection[Field] = ("query", "passage"),
    optional: Collection[Field] = ("passage", "answer"),
) -> list[Example]:
    """Read a row as an example, in the table's order; a query is always needed.

    `needs` are the fields that a row must have to be used; other rows are counted in a warning and
    skipped. `optional` are the fields to take where they are found. A field in neither is not
    looked for, whatever `columns` says of it. Rows with the same passage share one Passage.

    Raises UserError when the source can't be read, a column is missing or no row is left.
    """
    needed = {"query", *needs}
    texts = _read_texts(read_table(source), columns, needed, needed.union(optional))
    nothing = [""] * len(texts["query"])
    passage = _passage_maker(columns.prepend_title)
    rows = zip(
        texts["query"],
        texts.get("answer", nothing),
        texts.get("passage", nothing),
        texts.get("title", nothing),
        strict=True,
    )
    return [
        Example(query, answer or None, passage(text, title) if text else None)
        for query, answer, text, title in rows
    ]


def read_passages(source: str | Path, columns: PairColumns) -> list[Passage]:
    """Read a knowledge base's distinct passages (by id), in the order of their first rows.

    Raises UserError when the source can't be read, a column is missing or no passage is left.
    """
    texts = _read_texts(read_table(source), columns, {"passage"}, {"passage"})
    titles = texts.get("title", [""] * len(texts["passage"]))
    passage = _passage_maker(columns.prepend_title)
    distinct: dict[str, Passage] = {}
    for found in map(passage, texts["passage"], titles):
        distinct.setdefault(found.id, found)
    return list(distinct.values())


def _passage_maker(prepend_title: bool) -> Callable[[str, str], Passage]:
    """Return a function that hashes equal passages once and shares them between rows."""

    @cache
    def make(text: str, title: str) -> Passage:
        return Passage.of(f"{title}\n{text}" if prepend_title and title else text, title)

    return make


# Columns


def _find_columns(
    table: Table, columns: PairColumns, needed: Collection[str], wanted: Collection[str]
) -> dict[Role, str]:
    named: dict[Role, str] = {
        "query": columns.query_column,
        "passage": columns.passage_column,
        "answer": getattr(columns, "answer_column", Columns.answer_column),
    }
    found: dict[Role, str] = {}
    for role, name in named.items():
        if role in wanted and (column := _find(table, role, name, named.values())):
            found[role] = column
        elif role in needed:
            raise _missing(table, role, name)
    if "passage" in found:  # a title belongs to a passage
        title = _find(table, "title", columns.title_column, found.values())
        if title:
            found["title"] = title
        elif columns.prepend_title:
            raise _missing(table, "title", columns.title_column)
    return found


def _find(table: Table, role: Role, name: str, named: Collection[str]) -> str | None:
    """Find the column that was named, or an older name of the default that nobody claimed."""
    if name in table.columns:
        return name
    default: str = getattr(Columns(), f"{role}_column")
    if name != default:
        raise _missing(table, role, name)
    unclaimed = {column.lower(): column for column in table.columns if column not in named}
    for older in (default, *OLDER_NAMES[role]):
        if column := unclaimed.get(older.lower()):
            logger.info("%s: no column %r, reading %r as the %s", table.name, name, column, role)
            return column
    return None


def _missing(table: Table, role: Role, name: str) -> UserError:
    by_lower_case = {column.lower(): column for column in table.columns}
    meant = (name, *OLDER_NAMES[role])
    near = [get_close_matches(each.lower(), by_lower_case, n=1) for each in meant]
    likely = next((by_lower_case[match[0]] for match in near if match), "NAME")
    return UserError(
        f"{table.name} has no column {name!r} for the {role}, "
        f"only {', '.join(map(repr, table.columns))}; set --{role}-column {likely}"
    )


# Cells


def _read_texts(
    table: Table, columns: PairColumns, needed: Collection[str], wanted: Collection[str]
) -> dict[Role, list[str]]:
    """Read the wanted columns, as far as they are there, of the rows that have all the needed."""
    found = _find_columns(table, columns, needed, wanted)
    texts = {role: _texts(table, name) for role, name in found.items()}
    empty = {
        found[role]: {row for row, text in enumerate(cells, 1) if not text}
        for role, cells in texts.items()
        if role in needed
    }
    skipped = set[int]().union(*empty.values())
    if not skipped:
        return texts
    _report(table, empty, skipped)
    return {
        role: [text for row, text in enumerate(cells, 1) if row not in skipped]
        for role, cells in texts.items()
    }


def _report(table: Table, empty: dict[str, set[int]], skipped: set[int]) -> None:
    """Log what is skipped; raise UserError when that is everything."""
    counts = ", ".join(f"{column!r} in {len(rows)}" for column, rows in empty.items() if rows)
    if len(skipped) == table.rows:
        raise UserError(
            f"{table.name}: none of its {table.rows} rows can be used, empty are {counts}; "
            "fill the cells or name other columns"
        )
    first = ", ".join(map(str, sorted(skipped)[:5]))
    logger.warning(
        "%s: skipped %d of %d rows, empty are %s (rows %s%s, counted from 1 without the header)",
        *(table.name, len(skipped), table.rows, counts, first, ", …" * (len(skipped) > 5)),
    )


def _texts(table: Table, column: str) -> list[str]:
    """Return a column's cells as texts; what is missing or blank becomes the empty text."""
    texts = []
    for row, cell in enumerate(table.column(column), 1):
        try:
            text = cell if type(cell) is str else _as_text(cell)
            if not text.isascii():
                text.encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise _bad_cell(table, row, column, f"{half} is half a character; remove it") from None
        except TypeError as error:
            raise _bad_cell(table, row, column, f"{error}; write it as text first") from None
        texts.append("" if text.isspace() else text)
    return texts


def _as_text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, bytes | dict | list):
        raise TypeError(f"a {type(cell).__name__}, not a text")
    return str(cell)


def _bad_cell(table: Table, row: int, column: str, problem: str) -> UserError:
    return UserError(f"{table.name}, row {row}, column {column!r}: {problem}")
