"""A table or a BEIR folder in; judged queries and the passages to search out."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.cell_values import bad_cell, texts_of
from dalm.io.examples import Field, read_passages, read_rows
from dalm.io.tables import Table, read_table
from dalm.io.trec import read_qrels
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
    folder, split = _beir(source)
    if folder is not None:
        read = _read_beir(folder, split, columns.prepend_title)
    else:
        read = _read_table(read_table(source), columns, set(needs), answerable_column)
    passages = dict(read.passages)
    for each in knowledge_base:
        passages |= {p.id: p for p in read_passages(each, columns) if p.id not in passages}
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


# Tables


def _read_table(
    table: Table, columns: Columns, needs: set[Field], answerable_column: str
) -> EvaluationSet:
    answerable = _answerable(table, answerable_column)
    if any(mark is not None for mark in answerable):
        needs = needs - {"passage", "answer"}  # an unanswerable question has neither
    rows = read_rows(table, columns, needs=needs)
    together: dict[str, list[tuple[Example, bool | None]]] = {}
    for row, example in rows.items():
        together.setdefault(passage_id(example.query), []).append((example, answerable[row]))
    queries = [_judged(key, found, table.name) for key, found in together.items()]
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
    said = {answerable for _, answerable in found} - {None}
    if len(said) > 1:
        raise UserError(
            f"{table}: the question {examples[0].query[:60]!r} is marked answerable in one row and "
            "unanswerable in another; mend one of them"
        )
    gold = {example.passage.id: example.passage for example in examples if example.passage}
    first = next(iter(gold.values()), None)
    return JudgedQuery(
        id=key,
        query=examples[0].query,
        relevant=dict.fromkeys(gold, 1),
        references=tuple(dict.fromkeys(e.answer for e in examples if e.answer)),
        answerable=said.pop() if said else None,
        group=(first.title or first.id) if first else key,
    )


def _answerable(table: Table, column: str) -> Sequence[bool | None]:
    """Return what the data says of each row, if it has such a column."""
    if column not in table.columns:
        if column != "Answerable":
            raise UserError(f"{table.name} has no column {column!r}; set --answerable-column")
        return [None] * table.rows
    return list(_marks(table, column))


def _marks(table: Table, column: str) -> Iterator[bool | None]:
    for row, text in enumerate(texts_of(table, column), start=1):
        mark = text.strip().lower()
        if mark and mark not in TRUE | FALSE:
            raise bad_cell(table, row, column, f"{text!r} is neither true nor false")
        yield mark in TRUE if mark else None


# BEIR folders


def _beir(source: str) -> tuple[Path | None, str]:
    """Return the folder in BEIR's layout that `source` names, if it does, and its split."""
    name, _, split = source.rpartition(":")
    for folder, part in ((source, "test"), (name, split)):
        if folder and (Path(folder) / "corpus.jsonl").is_file():
            return Path(folder), part
    return None, ""


def _read_beir(folder: Path, split: str, prepend_title: bool) -> EvaluationSet:
    """Read corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv. Thakur et al., 2021, arXiv:2104.08663.

    Its published figures put the title before the text: `prepend_title`.
    """
    file = folder / "qrels" / f"{split}.tsv"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))) or "none"
        raise UserError(f"{folder} has no judgements {file}; splits that are there: {there}")
    qrels = read_qrels(file)
    passages = {passage.id: passage for passage in _corpus(folder, prepend_title)}
    texts = _texts(folder / "queries.jsonl", ("_id", "text"))
    queries = dict(zip(texts["_id"], texts["text"], strict=True))
    _check_ids(file, "query", qrels, queries)
    _check_ids(file, "passage", (p for grades in qrels.values() for p in grades), passages)
    judged = [
        JudgedQuery(id=each, query=queries[each], relevant=grades, group=each)
        for each, grades in qrels.items()
    ]
    return EvaluationSet(name=f"{folder}:{split}", queries=judged, passages=passages)


def _corpus(folder: Path, prepend_title: bool) -> Iterator[Passage]:
    texts = _texts(folder / "corpus.jsonl", ("_id", "text"))
    titles = texts.get("title", [""] * len(texts["_id"]))
    for name, text, title in zip(texts["_id"], texts["text"], titles, strict=True):
        yield Passage(name, f"{title}\n{text}" if prepend_title and title else text, title)


def _texts(file: Path, needed: Sequence[str]) -> dict[str, list[str]]:
    table = read_table(file)
    for column in needed:
        if column not in table.columns:
            raise UserError(f"{file} has no field {column!r}; BEIR's layout has it in every line")
    names = [name for name in (*needed, "title") if name in table.columns]
    return {name: texts_of(table, name) for name in names}


def _check_ids(file: Path, what: str, named: Iterable[str], there: Mapping[str, object]) -> None:
    missing = [name for name in dict.fromkeys(named) if name not in there]
    if missing:
        raise UserError(
            f"{file} judges {len(missing)} {what} ids that the folder doesn't have, such as "
            f"{missing[0]!r}; take another version of the folder, or remove the lines"
        )
