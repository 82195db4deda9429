"""Hold a system's results on judged queries, save them as a run folder, load them again.

A run folder holds

    results.json    name, facts (settings, versions, seconds …), means with their intervals
    queries.jsonl   a line per query: relevant passages, hits with scores, answers, measures
    passages.jsonl  the passages that were found or are relevant, with their provenance
    verdicts.jsonl  a line per verdict of an LLM judge, if there was one, with its reasons
    run.trec, qrels.trec   hits and judgements in TREC's formats
    manifest.json   sizes and hashes of these files; written last
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from dalm import artifacts
from dalm.errors import UserError
from dalm.eval.metric import Column
from dalm.eval.retrieval_metrics import in_rank_order
from dalm.io.trec import write_qrels, write_run
from dalm.records import Hit, JudgedQuery, Passage

SUMMARY, QUERIES, PASSAGES = "results.json", "queries.jsonl", "passages.jsonl"
VERDICTS, RUN, QRELS = "verdicts.jsonl", "run.trec", "qrels.trec"
FILES = (SUMMARY, QUERIES, PASSAGES, VERDICTS, RUN, QRELS)
BASELINE = "baseline"
"""Name of the baseline's run folder within the system's."""
FORMAT = 1
REMEDY = "evaluate again"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Results:
    """A system's hits, answers and values, each column in the order of `queries`.

    `answers` are keyed by the passages read: `found`, or one of the bounds (`gold`, `random`,
    `none`). `gold` are the relevant passages by id, where their texts are known. `verdicts` are
    those of an LLM judge, with its reasons. `facts` explain the figures: settings, versions,
    seconds.
    """

    name: str
    queries: Sequence[JudgedQuery]
    hits: Sequence[Sequence[Hit]]
    measures: Mapping[str, Column]
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gold: Mapping[str, Passage] = field(default_factory=dict, repr=False)
    verdicts: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns of another length than `queries`, and an empty test set."""
        columns: dict[str, Sequence[object]] = {"hits": self.hits, **self.measures, **self.answers}
        for name, column in columns.items():
            if len(column) != len(self.queries):
                raise ValueError(f"{name}: {len(column)} for {len(self.queries)} queries")
        if not self.queries:
            raise UserError("there are no queries to report on: the test set is empty")

    @cached_property
    def groups(self) -> list[str]:
        """Each query's cluster for the intervals: its document, else the query itself."""
        return [query.group or query.id for query in self.queries]

    @cached_property
    def rankings(self) -> list[list[Hit]]:
        """Each query's hits in the order in which they are measured."""
        return [in_rank_order(hits) for hits in self.hits]

    def rank(self, query: int) -> int | None:
        """Return the rank of the first relevant passage of the query at this position, if found."""
        relevant = set(self.queries[query].gold)
        ranking = enumerate(self.rankings[query], start=1)
        return next((rank for rank, hit in ranking if hit.passage.id in relevant), None)


def save(folder: Path, results: Results, summary: Mapping[str, Any]) -> None:
    """Write the run folder, the manifest last; `summary` joins name and facts in results.json."""
    discard(folder)
    _write_lines(folder / QUERIES, _records(results))
    _write_lines(folder / PASSAGES, (each.to_dict() for each in _passages(results).values()))
    if results.verdicts:
        _write_lines(folder / VERDICTS, results.verdicts)
    if any(results.hits):
        names = [query.id for query in results.queries]
        write_run(folder / RUN, results.name, dict(zip(names, results.rankings, strict=True)))
        write_qrels(folder / QRELS, {query.id: query.relevant for query in results.queries})
    head = {"format": FORMAT, "name": results.name, "queries": len(results.queries)}
    known = {**head, **summary, "facts": results.facts}
    text = json.dumps(known, ensure_ascii=False, allow_nan=False, indent=2)
    artifacts.write_text(folder / SUMMARY, text + "\n")
    artifacts.seal(folder, FILES)


def discard(folder: Path) -> None:
    """Remove a run's files from a folder: an earlier run's would be taken for a later one's."""
    for name in (artifacts.MANIFEST, *FILES):
        (folder / name).unlink(missing_ok=True)


def load(folder: Path) -> Results:
    """Read a run folder.

    Raises:
        UserError: it is none, or a file in it is damaged; names the file and the line.
    """
    for name in (SUMMARY, QUERIES, PASSAGES):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no run: it has no {name}; name a folder of dalm eval-…")
    head = artifacts.read_json(folder / SUMMARY, REMEDY)
    try:
        name, facts = str(head["name"]), dict(head["facts"])
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(str(folder / SUMMARY), error) from error
    passages = {each.id: each for each in _parsed(folder / PASSAGES, Passage.from_dict)}
    rows = list(_parsed(folder / QUERIES, lambda record: _row(record, passages)))
    if not rows:
        raise UserError(f"{folder / QUERIES} is empty; {REMEDY}")
    queries = [row.query for row in rows]
    if len({query.id for query in queries}) < len(queries):
        raise UserError(f"{folder / QUERIES}: a query occurs on two lines; {REMEDY}")
    has_verdicts = (folder / VERDICTS).is_file()
    verdicts = list(_parsed(folder / VERDICTS, dict)) if has_verdicts else ()
    _verify(folder)
    return Results(
        name=name,
        queries=queries,
        hits=[row.hits for row in rows],
        measures={m: [row.measures.get(m) for row in rows] for m in rows[0].measures},
        answers={a: [row.answers.get(a, "") for row in rows] for a in rows[0].answers},
        gold={p: passages[p] for query in queries for p in query.gold if p in passages},
        verdicts=verdicts,
        facts=facts,
    )


def _verify(folder: Path) -> None:
    try:
        artifacts.verify(folder)
    except artifacts.DamagedError as error:
        raise artifacts.DamagedError(f"{error}; {REMEDY}") from error


def _passages(results: Results) -> dict[str, Passage]:
    found = {hit.passage.id: hit.passage for hits in results.hits for hit in hits}
    return dict(results.gold) | found


def _records(results: Results) -> Iterator[dict[str, Any]]:
    """Yield a record per query, with its hits in the order in which they were measured."""
    for i, query in enumerate(results.queries):
        yield {
            **asdict(query),
            "relevant": dict(query.relevant),
            "rank": results.rank(i),
            "hits": [_hit(hit) for hit in results.rankings[i]],
            "answers": {read: texts[i] for read, texts in results.answers.items()},
            "measures": {name: column[i] for name, column in results.measures.items()},
        }


def _hit(hit: Hit) -> dict[str, Any]:
    passage = hit.passage
    record = {"id": passage.id, "score": hit.score, "source": passage.source, "page": passage.page}
    return {key: value for key, value in record.items() if value not in ("", None)}


@dataclass(frozen=True, slots=True)
class _Row:
    query: JudgedQuery
    hits: list[Hit]
    answers: dict[str, str]
    measures: dict[str, float | None]


def _row(record: dict[str, Any], passages: Mapping[str, Passage]) -> _Row:
    query = JudgedQuery(
        id=str(record["id"]),
        query=str(record["query"]),
        relevant={str(passage): int(grade) for passage, grade in record["relevant"].items()},
        references=tuple(record["references"]),
        answerable=record["answerable"],
        group=str(record["group"]),
    )
    hits = [
        Hit(passages.get(hit["id"]) or Passage(hit["id"], ""), _finite(hit["score"]))
        for hit in record["hits"]
    ]
    if len({hit.passage.id for hit in hits}) < len(hits):
        raise ValueError("a passage occurs twice among its hits")
    values = record["measures"].items()
    measures = {name: None if value is None else _finite(value) for name, value in values}
    return _Row(query, hits, dict(record["answers"]), measures)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _parsed(file: Path, make: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    for number, record in artifacts.read_jsonl(file, REMEDY):
        try:
            made = make(record)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _damaged(f"{file}, line {number}", error) from error
        yield made


def _damaged(where: str, error: Exception) -> artifacts.DamagedError:
    return artifacts.DamagedError(f"{where} is damaged ({type(error).__name__}: {error}); {REMEDY}")


def _write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with artifacts.write_file(file) as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
