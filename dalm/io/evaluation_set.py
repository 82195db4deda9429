"""Read judged queries, and the passages to search for them, from a table or a BEIR folder.

BEIR's layout is corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (Thakur et al., 2021,
arXiv:2104.08663).
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dalm.config import Columns, PairColumns
from dalm.errors import UserError
from dalm.io.columns import ProvenanceColumns
from dalm.io.examples import Field, read_passages, read_rows
from dalm.io.question_sources import passages_of, source_of
from dalm.io.tables import Table, read_table
from dalm.io.trec import read_qrels
from dalm.records import Example, JudgedQuery, Passage, question_id

logger = logging.getLogger(__name__)

Read = tuple[list[JudgedQuery], dict[str, Passage]]

TRUE, FALSE = {"true", "yes", "1", "1.0"}, {"false", "no", "0", "0.0"}


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Judged queries, and the passages that are searched for them, by id."""

    name: str
    queries: Sequence[JudgedQuery]
    passages: Mapping[str, Passage] = field(repr=False)
    added: int = 0
    """Relevant passages that aren't in the knowledge base, and are searched beside it."""

    @property
    def unjudged(self) -> int:
        """The number of queries that no passage is relevant to."""
        return sum(not query.gold for query in self.queries)

    def with_documents_of(self, found: Iterable[Passage]) -> "EvaluationSet":
        """Return the set with the documents that these passages of a knowledge base are of."""
        passages = dict(self.passages)
        for passage in found:
            _add(passages, passage)
        return replace(self, queries=[_with_document(query, passages) for query in self.queries])


def read_evaluation_set(
    source: str,
    columns: Columns,
    *,
    needs: Collection[Field],
    answerable_column: str = "Answerable",
    knowledge_base: Sequence[str] = (),
    searched: bool = True,
) -> EvaluationSet:
    """Read queries with what is relevant to them, and all passages to search.

    `source` is a table, or a folder in BEIR's layout (`folder`, or `folder:dev` for qrels other
    than test.tsv). Rows of a table with the same question are one query, with several relevant
    passages and all their answers. `knowledge_base` names more tables of passages. Not `searched`:
    other passages are, and the source needs none.

    Raises:
        UserError: something can't be read, ids don't match, or no query or passage is left.
    """
    beir = _find_beir(source)
    if beir is not None:
        name = ":".join(map(str, beir))
        queries, passages = _read_beir(*beir, columns)
    else:
        table = read_table(source, encoding=columns.encoding)
        name = table.name
        queries, passages = _read_table(table, columns, set(needs), answerable_column)
    made_from = source_of(source) if searched and not knowledge_base and beir is None else None
    searches: list[tuple[str, PairColumns]] = [(each, columns) for each in knowledge_base]
    if made_from and (found := passages_of(source, made_from)):
        searches = [(found, made_from.columns(columns.prepend_title))]
    added = set(passages) if searches and beir is None else set[str]()
    for each, read_as in searches:
        for passage in read_passages(each, read_as):
            added.discard(passage.id)
            _add(passages, passage)
    queries = [_with_document(query, passages) for query in queries]
    read = EvaluationSet(name=name, queries=queries, passages=passages, added=len(added))
    if not passages and searched:
        raise UserError(f"{source} has no passages to search; name a knowledge base, --passages")
    if read.unjudged == len(read.queries) and "passage" in needs:
        raise UserError(f"{source}: no passage is relevant to any of its queries; nothing to find")
    if read.unjudged:
        logger.warning(
            "%s: %d of %d queries have no relevant passage; the retrieval measures leave them out",
            *(source, read.unjudged, len(read.queries)),
        )
    if searched:
        named = ", ".join([*([source] if beir else []), *(each for each, _ in searches)])
        named += f", which {name} was made from" if made_from and searches else ""
        _tell_searched(read, named)
    return read


def _add(passages: dict[str, Passage], passage: Passage) -> None:
    """Add a passage of a knowledge base; one that is there takes its provenance if it has none."""
    known = passages.setdefault(passage.id, passage)
    if not known.provenance():
        passages[passage.id] = known.with_provenance(passage)


def _with_document(query: JudgedQuery, passages: Mapping[str, Passage]) -> JudgedQuery:
    """Group a query with those about the same document; of several its best passages' first name.

    The knowledge base may know the document of a passage where the table of questions doesn't.
    """
    best = max(query.relevant.values(), default=0)
    gold = [passages[each] for each in query.gold if query.relevant[each] == best]
    named = [each.of_document for each in gold if each.of_document != each.id]
    return replace(query, group=min(named or query.gold[:1] or [query.id]))


def _tell_searched(read: EvaluationSet, named: str) -> None:
    """Log what is searched, and warn if that is less than a user would search."""
    searching = f"searching  {len(read.passages):,} passages for {len(read.queries):,} queries"
    if read.added:
        logger.warning(
            "%s: all of %s, and beside them %s passages of the questions that aren't there: is it "
            "the knowledge base that the questions are about?",
            *(searching, named, f"{read.added:,}"),
        )
    elif named:
        logger.info("%s: all of %s", searching, named)
    else:
        logger.warning(
            "%s: only those of the questions, so that more is found than among all that a user "
            "searches; name these with --passages",
            searching,
        )


# Tables


def _read_table(table: Table, columns: Columns, needs: set[Field], answerable_column: str) -> Read:
    answerable = _answerable(table, answerable_column)
    if any(mark is not None for mark in answerable):
        needs = needs - {"passage", "answer"}  # an unanswerable question has neither
    rows = read_rows(table, columns, needs=needs)
    by_query: dict[str, list[tuple[Example, bool | None]]] = {}
    for row, example in rows.items():
        by_query.setdefault(question_id(example.query), []).append((example, answerable[row]))
    queries = [_judged(key, found, table.name) for key, found in by_query.items()]
    if len(queries) < len(rows):
        logger.info(
            "queries    %d in %d rows: rows with the same question are one query with several "
            "relevant passages",
            *(len(queries), len(rows)),
        )
    passages = {e.passage.id: e.passage for e in rows.values() if e.passage}
    return queries, passages


def _judged(key: str, found: Sequence[tuple[Example, bool | None]], table: str) -> JudgedQuery:
    examples = [example for example, _ in found]
    marks = {answerable for _, answerable in found} - {None}
    if len(marks) > 1:
        raise UserError(
            f"{table}: the question {examples[0].query[:60]!r} is marked answerable in one row and "
            "unanswerable in another; correct one of them"
        )
    gold = [example.passage for example in examples if example.passage]
    return JudgedQuery(
        id=key,
        query=min(example.query for example in examples),
        relevant=dict.fromkeys((passage.id for passage in gold), 1),
        references=tuple(dict.fromkeys(e.answer for e in examples if e.answer)),
        answerable=marks.pop() if marks else None,
    )


def _answerable(table: Table, column: str) -> Sequence[bool | None]:
    """Return whether each row is marked as answerable; None where it isn't marked."""
    if column not in table.columns:
        if column != "Answerable":
            raise UserError(f"{table.name} has no column {column!r}; set --answerable-column")
        return [None] * table.rows
    marks = list[bool | None]()
    for row, text in enumerate(table.texts(column)):
        mark = text.strip().lower()
        if mark and mark not in TRUE | FALSE:
            raise table.bad_cell(row, column, f"{text!r} is neither true nor false")
        marks.append(mark in TRUE if mark else None)
    return marks


# BEIR


def _find_beir(source: str) -> tuple[Path, str] | None:
    """Return the folder in BEIR's layout that `source` names, and its split; None if it is none."""
    name, _, split = source.rpartition(":")
    for folder, part in ((source, "test"), (name, split)):
        if folder and (Path(folder) / "corpus.jsonl").is_file():
            return Path(folder), part
    return None


def _read_beir(folder: Path, split: str, columns: Columns) -> Read:
    """Read the judged queries of a split, and all passages by their ids.

    BEIR's published figures put the title before the text: `prepend_title`.
    """
    file = folder / "qrels" / f"{split}.tsv"
    if not file.is_file():
        splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
        raise UserError(
            f"{folder} has no judgements {file}; its splits are: {', '.join(splits) or 'none'}"
        )
    qrels = read_qrels(file)
    corpus = _read_beir_table(folder / "corpus.jsonl", columns.encoding)
    passages = {each.id: each for each in _beir_passages(corpus, columns.prepend_title)}
    asked = _read_beir_table(folder / "queries.jsonl", columns.encoding)
    queries = dict(zip(asked.texts("_id"), asked.texts("text"), strict=True))
    _check_ids(file, "query", qrels, queries)
    _check_ids(file, "passage", (p for grades in qrels.values() for p in grades), passages)
    judged = [
        JudgedQuery(id=each, query=queries[each], relevant=grades) for each, grades in qrels.items()
    ]
    return judged, passages


def _read_beir_table(file: Path, encoding: str | None) -> Table:
    table = read_table(file, encoding=encoding)
    for column in ("_id", "text"):
        if column not in table.columns:
            raise UserError(f"{file} has no field {column!r}; BEIR's layout has it in every line")
    if repeated := [name for name, count in Counter(table.texts("_id")).items() if count > 1]:
        raise UserError(
            f"{file} has {len(repeated)} ids on several lines, such as {repeated[0]!r}; keep one "
            "line of each"
        )
    return table


def _beir_passages(table: Table, prepend_title: bool) -> Iterator[Passage]:
    ids, texts = table.texts("_id"), table.texts("text")
    titles = table.texts("title") if "title" in table.columns else [""] * table.rows
    provenance = ProvenanceColumns(table, ("_id", "text", "title"), with_extra=True)
    for row, (name, text, title) in enumerate(zip(ids, texts, titles, strict=True)):
        whole = f"{title}\n{text}" if prepend_title and title else text
        yield Passage(name, whole, title, **provenance.of(row))


def _check_ids(file: Path, what: str, judged: Iterable[str], known: Mapping[str, object]) -> None:
    missing = [name for name in dict.fromkeys(judged) if name not in known]
    if missing:
        raise UserError(
            f"{file} judges {len(missing)} {what} ids that the folder doesn't have, such as "
            f"{missing[0]!r}; take another version of the folder, or remove the lines"
        )
