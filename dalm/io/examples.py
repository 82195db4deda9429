"""Turn tables into records: a source and its columns' names in, examples or passages out."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from dalm.config import Columns, NegativesColumn, PairColumns
from dalm.errors import UserError
from dalm.io.cell_values import texts_of
from dalm.io.negative_columns import negative_columns, read_negatives
from dalm.io.tables import Table, read_table
from dalm.records import Example, Passage

logger = logging.getLogger(__name__)

Field = Literal["query", "passage", "answer"]
Role = Literal["query", "passage", "answer", "title", "negatives"]

OLDER_NAMES: dict[Role, tuple[str, ...]] = {
    "passage": ("Abstract", "Context"),
    "query": ("Question",),
    "answer": (),
    "title": (),
    "negatives": (),
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
    looked for, whatever `columns` says of it. Rows with the same passage share one Passage. Hard
    negatives are read if `columns` has a `negatives_column`, for rows with a passage.

    Raises UserError when the source can't be read, a column is missing or no row is left.
    """
    return list(read_rows(read_table(source), columns, needs=needs, optional=optional).values())


def read_rows(
    table: Table,
    columns: PairColumns,
    *,
    needs: Collection[Field] = ("query", "passage"),
    optional: Collection[Field] = ("passage", "answer"),
) -> dict[int, Example]:
    """Return the examples that `read_examples` reads, each by its row's place, 0 first."""
    needed = {"query", *needs}
    kept, texts = _read_texts(table, columns, needed, needed.union(optional))
    nothing = [""] * len(kept)
    passage = _passage_maker(columns.prepend_title)
    answers, golds, titles = (texts.get(r, nothing) for r in ("answer", "passage", "title"))
    negatives = _negatives(table, columns, kept, {*zip(golds, titles, strict=True)}, passage)
    examples = [
        Example(query, answer or None, passage(text, title) if text else None)
        for query, answer, text, title in zip(texts["query"], answers, golds, titles, strict=True)
    ]
    if negatives is not None:
        examples = [
            replace(example, negatives=_apart(example, found))
            for example, found in zip(examples, negatives, strict=True)
        ]
    return dict(zip(kept, examples, strict=True))


def read_passages(source: str | Path, columns: PairColumns) -> list[Passage]:
    """Read a knowledge base's distinct passages (by id), in the order of their first rows.

    Raises UserError when the source can't be read, a column is missing or no passage is left.
    """
    _, texts = _read_texts(read_table(source), columns, {"passage"}, {"passage"})
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


# Hard negatives


def _negatives(
    table: Table,
    columns: PairColumns,
    kept: Sequence[int],
    golds: Iterable[tuple[str, str]],
    passage: Callable[[str, str], Passage],
) -> list[list[Passage]] | None:
    """Read the negatives of the rows that are kept; None if the table has none.

    A table's own passage is known by its text, with its title before it or without: so it is one
    passage, gold or negative, whether titles were prepended when negatives were mined or not.
    """
    name = getattr(columns, "negatives_column", "")
    found = negative_columns(table, name, (columns.query_column, columns.passage_column))
    if not found:
        if name and name != NegativesColumn.negatives_column:
            raise _missing(table, "negatives", name)
        return None
    known: dict[str, Passage] = {}
    for text, title in golds:
        for written in (text, f"{title}\n{text}"):
            known.setdefault(written, passage(text, title))
    texts = read_negatives(table, found)
    negatives = [[known.get(text) or passage(text, "") for text in texts[row]] for row in kept]
    count, rows = sum(map(len, negatives)), sum(map(bool, negatives))
    logger.info("negatives  %d for %d of %d questions (%s)", count, rows, len(kept), _few(found))
    return negatives


def _apart(example: Example, negatives: Sequence[Passage]) -> tuple[Passage, ...]:
    """Return a row's negatives once each, without its gold passage; none if it has no gold one."""
    if example.passage is None:
        return ()
    distinct = {negative.id: negative for negative in negatives}
    distinct.pop(example.passage.id, None)
    return tuple(distinct.values())


def _few(columns: Sequence[str]) -> str:
    return columns[0] if len(columns) == 1 else f"{columns[0]} … {columns[-1]}"


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
) -> tuple[list[int], dict[Role, list[str]]]:
    """Read the wanted columns, as far as they are there, of the rows that have all the needed.

    Returns the places of these rows, 0 first, and their texts.
    """
    found = _find_columns(table, columns, needed, wanted)
    texts = {role: texts_of(table, name) for role, name in found.items()}
    empty = {
        found[role]: {row for row, text in enumerate(cells, 1) if not text}
        for role, cells in texts.items()
        if role in needed
    }
    skipped = set[int]().union(*empty.values())
    if not skipped:
        return list(range(table.rows)), texts
    _report(table, empty, skipped)
    kept = [row - 1 for row in range(1, table.rows + 1) if row not in skipped]
    return kept, {role: [cells[row] for row in kept] for role, cells in texts.items()}


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
