"""Read examples and passages from tables, by the names of their columns."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dalm.config import Columns, NegativesColumn, PairColumns
from dalm.errors import UserError
from dalm.io.cell_values import CellError, cell_text, listed_texts, values_at
from dalm.io.columns import (
    OLDER_NAMES,
    ProvenanceColumns,
    Role,
    find_columns,
    missing_column,
    negative_columns,
)
from dalm.io.scored_tables import is_scored, titles_of_candidates
from dalm.io.table_parts import TableParts
from dalm.io.tables import NAMED, Table, read_table
from dalm.records import (
    PROVENANCE,
    Example,
    Passage,
    distinct_by_id,
    gold_passages,
    question_id,
)

logger = logging.getLogger(__name__)

LONGEST_TEXT = 1_000_000
"""Characters of a passage, question or answer; a row with a longer one is skipped."""
Field = Literal["query", "passage", "answer"]


def read_examples(
    source: str | Path,
    columns: PairColumns,
    *,
    needs: Collection[Field] = ("query", "passage"),
    optional: Collection[Field] = ("passage", "answer"),
    hints: Collection[Field] = (),
) -> list[Example]:
    """Read a row as an example, in the table's order; a query is always needed.

    `needs` are the fields that a row must have to be used; other rows are counted in a warning and
    skipped. `optional` are the fields to take where they are found, `hints` those to take from the
    column of their name where it can be read. A field in none is not looked for, whatever `columns`
    says of it. Rows with the same passage share one Passage, with
    the provenance in the first of them. Hard negatives are read if `columns` has a
    `negatives_column`, for rows with a passage.

    Raises UserError when the source can't be read, a column is missing or no row is left.
    """
    table = read_table(source, encoding=columns.encoding)
    found = list(read_rows(table, columns, needs=needs, optional=optional, hints=hints).values())
    if is_scored(table):
        labelled = sum(example.passage is not None for example in found)
        logger.info("teacher    names a positive for %d of %d questions", labelled, table.rows)
    return found


def read_rows(
    table: Table,
    columns: PairColumns,
    *,
    needs: Collection[Field] = ("query", "passage"),
    optional: Collection[Field] = ("passage", "answer"),
    hints: Collection[Field] = (),
) -> dict[int, Example]:
    """Return the examples that `read_examples` reads, each by its row's place, 0 first."""
    needed = {"query", *needs}
    found = find_columns(table, columns, needed, needed.union(optional))
    for role in hints:
        default = getattr(Columns, f"{role}_column")
        name = getattr(columns, f"{role}_column", default)
        if table.has(name) and role not in found:
            found[role] = name
        elif name != default:
            raise missing_column(table, role, name)
    kept, texts = _read_texts(table, found, needed, hints)
    nothing = [""] * len(kept)
    answers, written, titles = (texts.get(r, nothing) for r in ("answer", "passage", "title"))
    passages = _Passages(ProvenanceColumns(table, found.values()), columns.prepend_title)
    golds = [
        passages.of(text, title, row) if text else None
        for row, text, title in zip(kept, written, titles, strict=True)
    ]
    negatives = _negatives(table, columns, kept, passages)
    examples = [
        Example(query, answer or None, gold)
        for query, answer, gold in zip(texts["query"], answers, golds, strict=True)
    ]
    if any(negatives):
        examples = _with_negatives(examples, negatives)
    return dict(zip(kept, examples, strict=True))


def read_passages(source: str | Path, columns: PairColumns) -> list[Passage]:
    """Read a knowledge base's distinct passages (by id), in the order of their first rows.

    Their provenance is read with them; what a table of passages has in further columns becomes
    `extra`. A path into nested JSON may lead to several passages in a row.

    Raises UserError when the source can't be read, a column is missing or no passage is left.
    """
    table = read_table(source, encoding=columns.encoding)
    reader = _PassageReader(table, columns)
    return distinct_by_id(reader.passages([table], table))


class PassageFile:
    """The passages of a table file, those of equal texts too, with some of them in memory.

    `unread` is the number of rows that can't be read, when all others were.
    """

    def __init__(self, path: Path, columns: PairColumns) -> None:
        self.parts = TableParts(path, columns.encoding)
        self.columns = columns
        self.unread = 0

    def __iter__(self) -> Iterator[Passage]:
        """Yield the passages as `read_passages` reads them, and raise as it does."""
        whole = self.parts.table
        reader = _PassageReader(whole, self.columns)
        needed = {*reader.found.values(), *PROVENANCE, *(whole.plain if reader.has_extra else ())}
        roots = [name if name in whole.columns else name.partition(".")[0] for name in needed]
        yield from reader.passages(self.parts.parts(roots), whole)
        self.unread = self.parts.unread + len(reader.skipped.broken)


class _PassageReader:
    """Read passages from a table's rows, wholly or part by part."""

    def __init__(self, table: Table, columns: PairColumns) -> None:
        self.columns = columns
        self.found = find_columns(table, columns, {"passage"}, {"passage"})
        asks = (columns.query_column, *OLDER_NAMES["query"])
        self.has_extra = not any(table.has(name) for name in asks)
        self.skipped = _SkippedRows(table)

    def passages(self, parts: Iterable[Table], whole: Table) -> Iterator[Passage]:
        """Yield a passage for each row that has one, and log the others in the end.

        Raises:
            UserError: there is none.
        """
        start = 0
        for part in parts:
            yield from self._of_part(part, start)
            start += part.rows
        self.skipped.table = replace(whole, rows=start)
        self.skipped.report()

    def _of_part(self, part: Table, start: int) -> Iterator[Passage]:
        name, title = self.found["passage"], self.found.get("title")
        provenance = ProvenanceColumns(part, self.found.values(), with_extra=self.has_extra)
        passages = _Passages(provenance, self.columns.prepend_title)
        filled = bytearray(part.rows)  # rows with a passage
        for row, *cells in _passage_cells(part, name, title, self.columns.title_column):
            try:
                text, heading = map(_short_text, cells)
            except CellError as error:
                self.skipped.add_broken(start + row, name, error)
                continue
            if text:
                filled[row] = True
                yield passages.in_row(text, heading, row)
        for row in range(part.rows):
            if not filled[row] and start + row not in self.skipped.broken:
                self.skipped.add_empty(start + row, name)


def _passage_cells(
    table: Table, name: str, title: str | None, nearest: str
) -> Iterator[tuple[int, object, object]]:
    """Yield row, passage and title; lists of passages are gone through, with `nearest` titles."""
    cells = table.column(name)
    if name in table.columns and not any(type(cell) is list for cell in cells):
        titles = table.column(title) if title else [""] * len(cells)
        yield from zip(range(table.rows), cells, titles, strict=True)
        return
    records = table.records([name, title] if title else [name])
    for row, record in enumerate(records):
        for cell, found in values_at(record, name, title or nearest):
            yield row, cell, found


class _Passages:
    """Make passages: equal ones are hashed once, and shared between rows."""

    def __init__(self, provenance: ProvenanceColumns, prepend_title: bool) -> None:
        self.provenance = provenance
        self.prepend_title = prepend_title
        self.made: dict[tuple[str, str], Passage] = {}

    def of(self, text: str, title: str, row: int | None = None) -> Passage:
        """Return the passage; one that is new has the provenance of its row."""
        if (text, title) not in self.made:
            self.made[text, title] = self.in_row(text, title, row)
        return self.made[text, title]

    def in_row(self, text: str, title: str, row: int | None) -> Passage:
        """Return the passage with the provenance of its row, whatever other rows say of it."""
        known = {} if row is None else self.provenance.of(row)
        whole = f"{title}\n{text}" if self.prepend_title and title else text
        return Passage.of(whole, title, **known)


# Hard negatives


def _negatives(
    table: Table, columns: PairColumns, kept: Sequence[int], passages: _Passages
) -> list[list[Passage]]:
    """Read the negatives of the rows that are kept.

    A table's own passage is known by its text, with its title before it or without: so it is one
    passage, gold or negative, whether titles were prepended when negatives were mined or not. Where
    titles are prepended, a table of scored candidates says those of its negatives.
    """
    name = getattr(columns, "negatives_column", "")
    found = negative_columns(table, name, (columns.query_column, columns.passage_column))
    if not found:
        if name and name != NegativesColumn.negatives_column:
            raise missing_column(table, "negatives", name)
        return [[] for _ in kept]
    known: dict[str, Passage] = {}
    for (text, title), passage in passages.made.items():
        for written in (text, f"{title}\n{text}"):
            known.setdefault(written, passage)
    texts = read_negatives(table, found)
    titles = titles_of_candidates(table) if passages.prepend_title else {}
    negatives = [
        [known.get(text) or passages.of(text, titles.get(text, "")) for text in texts[row]]
        for row in kept
    ]
    count, rows = sum(map(len, negatives)), sum(map(bool, negatives))
    named = found[0] if len(found) == 1 else f"{found[0]} … {found[-1]}"
    logger.info("negatives  %d for %d of %d questions (%s)", count, rows, len(kept), named)
    return negatives


def read_negatives(table: Table, columns: Sequence[str]) -> list[list[str]]:
    """Return each row's texts from one column of lists or several of texts, without blank ones.

    Raises UserError for a cell that is neither a list of texts nor a text.
    """
    rows: list[list[str]] = [[] for _ in range(table.rows)]
    for column in columns:
        for row, cell in enumerate(table.column(column)):
            try:
                rows[row] += listed_texts(cell)
            except CellError as error:
                raise table.bad_cell(row, column, error) from None
    return [list(dict.fromkeys(texts)) for texts in rows]


def _with_negatives(
    examples: Sequence[Example], negatives: Sequence[Sequence[Passage]]
) -> list[Example]:
    """Return the rows with their negatives, once each; none for a row without a gold passage.

    The gold passages of all rows with the same question are no negatives of any of them.
    """
    golds = gold_passages(examples)
    found, left_out = [], 0
    for example, others in zip(examples, negatives, strict=True):
        distinct: dict[str, Passage] = {}
        if example.passage is not None:
            distinct = {negative.id: negative for negative in others}
            count = len(distinct)
            for gold in golds[question_id(example.query)]:
                distinct.pop(gold.id, None)
            left_out += count - len(distinct)
        found.append(replace(example, negatives=tuple(distinct.values())))
    if left_out:
        logger.info("negatives  %d are gold passages of their question: left out", left_out)
    return found


# Rows


def _read_texts(
    table: Table, found: Mapping[Role, str], needed: Collection[str], hints: Collection[str] = ()
) -> tuple[list[int], dict[Role, list[str]]]:
    """Read the columns that were found, of the rows that have all the needed ones.

    Returns the places of these rows, 0 first, and their texts.
    """
    skipped_rows = _SkippedRows(table)
    texts: dict[Role, list[str]] = {}
    for role, name in found.items():
        texts[role] = []
        for row, cell in enumerate(table.column(name)):
            try:
                text = _short_text(cell)
            except CellError as error:
                if role not in hints:
                    skipped_rows.add_broken(row, name, error)
                text = ""
            if not text and role in needed and row not in skipped_rows.broken:
                skipped_rows.add_empty(row, name)
            texts[role].append(text)
    skipped_rows.report()
    skipped = skipped_rows.rows()
    if not skipped:
        return list(range(table.rows)), texts
    kept = [row for row in range(table.rows) if row not in skipped]
    return kept, {role: [cells[row] for row in kept] for role, cells in texts.items()}


def _short_text(cell: object) -> str:
    """Return a cell as a text.

    Raises:
        CellError: no text, or one that is a book: its tokens alone would take minutes.
    """
    text = cell_text(cell)
    if len(text) > LONGEST_TEXT:
        raise CellError(f"a text of {len(text):,} characters; split it with dalm passages")
    return text


class _SkippedRows:
    """Rows that are skipped: with a cell that is no text, or without one that is needed."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.broken: dict[int, str] = {}
        self.empty: dict[str, set[int]] = {}

    def add_broken(self, row: int, column: str, problem: CellError) -> None:
        self.broken.setdefault(row, f"{self.table.place(row)}, column {column!r}: {problem}")

    def add_empty(self, row: int, column: str) -> None:
        self.empty.setdefault(column, set()).add(row)

    def rows(self) -> set[int]:
        return set(self.broken).union(*self.empty.values())

    def report(self) -> None:
        """Log what is skipped; raise UserError when that is every row."""
        name, total = self.table.name, self.table.rows
        skipped = self.rows()
        reasons = [self.broken[row] for row in sorted(self.broken)]
        counts = ", ".join(f"{column!r} in {len(rows)}" for column, rows in self.empty.items())
        if len(skipped) == total:
            problems = reasons[:1]
            if counts:
                problems.append(f"empty are {counts}; fill the cells or name other columns")
            raise UserError(f"{name}: none of its {total} rows can be used, {'; '.join(problems)}")
        for reason in reasons[:NAMED]:
            logger.warning("unread     %s, %s", name, reason)
        if reasons:
            logger.warning("unread     %d of %d rows of %s", len(reasons), total, name)
        if counts:
            empty = sorted(set().union(*self.empty.values()))
            places = ", ".join(self.table.place(row).partition(" ")[2] for row in empty[:5])
            more = ", …" if len(empty) > 5 else ""
            logger.warning(
                "%s: skipped %d of %d rows, empty are %s (%ss %s%s)",
                *(name, len(empty), total, counts, self.table.unit, places, more),
            )
