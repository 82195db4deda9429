"""Read judged queries, and the passages to search for them, from a table or a BEIR folder."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.beir import find_beir, read_beir
from dalm.io.examples import Field, read_passages, read_rows
from dalm.io.table import Table
from dalm.io.tables import read_table
from dalm.records import Example, JudgedQuery, Passage, passage_id

logger = logging.getLogger(__name__)

TRUE, FALSE = {"true", "yes", "1", "1.0"}, {"false", "no", "0", "0.0"}


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Judged queries, and the passages that are searched for them, by id."""

    name: str
    queries: Sequence[JudgedQuery]
    passages: Mapping[str, Passage] = field(repr=False)

    @property
    def unjudged(self) -> int:
        """The number of queries that no passage is relevant to."""
        return sum(not query.gold for query in self.queries)


def read_evaluation_set(
    source: str,
    columns: Columns,
    *,
    needs: Collection[Field],
    answerable_column: str = "Answerable",
    knowledge_base: Sequence[str] = (),
) -> EvaluationSet:
    """Read queries with what is relevant to them, and all passages to search.

    `source` is a table, or a folder in BEIR's layout (`folder`, or `folder:dev` for qrels other
    than test.tsv). Rows of a table with the same question are one query, with several relevant
    passages and all their answers. `knowledge_base` names more tables of passages.

    Raises:
        UserError: something can't be read, ids don't match, or no query or passage is left.
    """
    beir = find_beir(source)
    if beir is not None:
        queries, found = read_beir(
            *beir, prepend_title=columns.prepend_title, encoding=columns.encoding
        )
        read = EvaluationSet(name=":".join(map(str, beir)), queries=queries, passages=found)
    else:
        table = read_table(source, encoding=columns.encoding)
        read = _read_table(table, columns, set(needs), answerable_column)
    passages = dict(read.passages)
    for each in knowledge_base:
        for passage in read_passages(each, columns):
            passages[passage.id] = _with_provenance(passages.get(passage.id), passage)
    if not passages:
        raise UserError(f"{source} has no passages to search; name a knowledge base, --passages")
    if read.unjudged == len(read.queries) and "passage" in needs:
        raise UserError(f"{source}: no passage is relevant to any of its queries; nothing to find")
    if read.unjudged:
        logger.warning(
            "%s: %d of %d queries have no relevant passage; the retrieval measures leave them out",
            *(source, read.unjudged, len(read.queries)),
        )
    logger.info("searching  %d passages for %d queries", len(passages), len(read.queries))
    return replace(read, passages=passages)


def _with_provenance(known: Passage | None, other: Passage) -> Passage:
    """Return a passage that is known, with the other's provenance if it has none of its own."""
    if known is None:
        return other
    return known if known.provenance() else known.with_provenance(other)


# Tables


def _read_table(
    table: Table, columns: Columns, needs: set[Field], answerable_column: str
) -> EvaluationSet:
    answerable = _answerable(table, answerable_column)
    if any(mark is not None for mark in answerable):
        needs = needs - {"passage", "answer"}  # an unanswerable question has neither
    rows = read_rows(table, columns, needs=needs)
    by_query: dict[str, list[tuple[Example, bool | None]]] = {}
    for row, example in rows.items():
        by_query.setdefault(passage_id(example.query), []).append((example, answerable[row]))
    queries = [_judged(key, found, table.name) for key, found in by_query.items()]
    if len(queries) < len(rows):
        logger.info(
            "queries    %d in %d rows: rows with the same question are one query with several "
            "relevant passages",
            *(len(queries), len(rows)),
        )
    passages = {e.passage.id: e.passage for e in rows.values() if e.passage}
    return EvaluationSet(name=table.name, queries=queries, passages=passages)


def _judged(key: str, found: Sequence[tuple[Example, bool | None]], table: str) -> JudgedQuery:
    examples = [example for example, _ in found]
    marks = {answerable for _, answerable in found} - {None}
    if len(marks) > 1:
        raise UserError(
            f"{table}: the question {examples[0].query[:60]!r} is marked answerable in one row and "
            "unanswerable in another; correct one of them"
        )
    gold = {example.passage.id: example.passage for example in examples if example.passage}
    first = next(iter(gold.values()), None)
    return JudgedQuery(
        id=key,
        query=examples[0].query,
        relevant=dict.fromkeys(gold, 1),
        references=tuple(dict.fromkeys(e.answer for e in examples if e.answer)),
        answerable=marks.pop() if marks else None,
        group=(first.title or first.id) if first else key,
    )


def _answerable(table: Table, column: str) -> Sequence[bool | None]:
    """Return whether each row is marked as answerable; None where it isn't marked."""
    if column not in table.columns:
        if column != "Answerable":
            raise UserError(f"{table.name} has no column {column!r}; set --answerable-column")
        return [None] * table.rows
    return list(_marks(table, column))


def _marks(table: Table, column: str) -> Iterator[bool | None]:
    for row, text in enumerate(table.texts(column)):
        mark = text.strip().lower()
        if mark and mark not in TRUE | FALSE:
            raise table.bad_cell(row, column, f"{text!r} is neither true nor false")
        yield mark in TRUE if mark else None
