"""What a system did with judged queries: measured, saved as a run folder, loaded again.

A run folder holds

    results.json    name, facts (settings, versions, seconds …), means with their intervals
    queries.jsonl   a line per query: what is relevant, hits with scores, answers, measures
    passages.jsonl  the texts of the passages that were found or are relevant
    verdicts.jsonl  a line per verdict of a judge, if there was one, with its reasons
    run.trec, qrels.trec   the same for trec_eval and whatever else reads it
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dalm.errors import UserError
from dalm.eval.metrics import Column, in_rank_order
from dalm.io.trec import write_qrels, write_run
from dalm.records import Hit, JudgedQuery, Passage

SUMMARY, QUERIES, PASSAGES = "results.json", "queries.jsonl", "passages.jsonl"
VERDICTS, RUN, QRELS = "verdicts.jsonl", "run.trec", "qrels.trec"
BASELINE = "baseline"
"""The folder of a baseline's run within the other's."""
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Results:
    """A system's hits, answers and values, each column in the order of `queries`.

    `answers` are by what was read: `found` passages, or one of the bounds (`gold`, `random`,
    `none`). `gold` are the relevant passages by id, as far as their texts are known. `verdicts` are
    a judge's, with its reasons. `facts` is whatever explains the figures: settings, versions,
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
        """Refuse what doesn't fit together."""
        columns: dict[str, Sequence[object]] = {"hits": self.hits, **self.measures, **self.answers}
        for name, column in columns.items():
            if len(column) != len(self.queries):
                raise ValueError(f"{name}: {len(column)} for {len(self.queries)} queries")
        if not self.queries:
            raise UserError("there are no queries to report on: the test set is empty")

    @cached_property
    def groups(self) -> list[str]:
        """What each query shares its difficulty with, for the intervals."""
        return [query.group or query.id for query in self.queries]

    @cached_property
    def rankings(self) -> list[list[Hit]]:
        """Each query's hits in the order in which they are measured."""
        return [in_rank_order(hits) for hits in self.hits]

    def rank(self, place: int) -> int | None:
        """Return the rank of the first relevant passage of the query in this place, if found."""
        relevant = set(self.queries[place].gold)
        ranking = enumerate(self.rankings[place], start=1)
        return next((rank for rank, hit in ranking if hit.passage.id in relevant), None)


def save(folder: Path, results: Results, summary: Mapping[str, Any]) -> None:
    """Write the run folder anew; `summary` joins name and facts in results.json."""
    folder.mkdir(parents=True, exist_ok=True)
    discard(folder)
    _write_lines(folder / QUERIES, _records(results))
    _write_lines(folder / PASSAGES, (asdict(passage) for passage in _passages(results).values()))
    if results.verdicts:
        _write_lines(folder / VERDICTS, results.verdicts)
    if any(results.hits):
        names = [query.id for query in results.queries]
        write_run(folder / RUN, results.name, dict(zip(names, results.rankings, strict=True)))
        write_qrels(folder / QRELS, {query.id: query.relevant for query in results.queries})
    head = {"format": FORMAT, "name": results.name, "queries": len(results.queries)}
    known = {**head, **summary, "facts": results.facts}
    text = json.dumps(known, ensure_ascii=False, allow_nan=False, indent=2)
    (folder / SUMMARY).write_text(text + "\n", "utf-8")


def discard(folder: Path) -> None:
    """Remove a run's files from a folder: those of an earlier run would be taken for a later's."""
    for name in (SUMMARY, QUERIES, PASSAGES, VERDICTS, RUN, QRELS):
        (folder / name).unlink(missing_ok=True)


def load(folder: Path) -> Results:
    """Read a run folder.

    Raises:
        UserError: it is none, or a file in it is broken; it names the file and the line.
    """
    for name in (SUMMARY, QUERIES, PASSAGES):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no run: it has no {name}; name a folder of dalm eval-…")
    try:
        head = json.loads((folder / SUMMARY).read_text("utf-8"))
        name, facts = str(head["name"]), dict(head["facts"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _broken(folder / SUMMARY, error) from error
    passages = {
        passage.id: passage
        for passage in _parsed(folder / PASSAGES, lambda record: Passage(**record))
    }
    rows = list(_parsed(folder / QUERIES, lambda record: _row(record, passages)))
    if not rows:
        raise UserError(f"{folder / QUERIES} is empty; evaluate again")
    queries = [row.query for row in rows]
    if len({query.id for query in queries}) < len(queries):
        raise UserError(f"{folder / QUERIES}: a query stands in two lines; evaluate again")
    measures = {m: [row.measures.get(m) for row in rows] for row in rows[:1] for m in row.measures}
    answers = {a: [row.answers.get(a, "") for row in rows] for row in rows[:1] for a in row.answers}
    return Results(
        name=name,
        queries=queries,
        hits=[row.hits for row in rows],
        measures=measures,
        answers=answers,
        gold={p: passages[p] for query in queries for p in query.gold if p in passages},
        verdicts=list(_parsed(folder / VERDICTS, dict)) if (folder / VERDICTS).is_file() else (),
        facts=facts,
    )


def _passages(results: Results) -> dict[str, Passage]:
    found = {hit.passage.id: hit.passage for hits in results.hits for hit in hits}
    return dict(results.gold) | found


def _records(results: Results) -> Iterator[dict[str, Any]]:
    """Yield a record per query; hits stand in the order in which they were measured."""
    for i, query in enumerate(results.queries):
        yield {
            **asdict(query),
            "relevant": dict(query.relevant),
            "rank": results.rank(i),
            "hits": [{"id": hit.passage.id, "score": hit.score} for hit in results.rankings[i]],
            "answers": {read: texts[i] for read, texts in results.answers.items()},
            "measures": {name: column[i] for name, column in results.measures.items()},
        }


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
        raise ValueError("a passage stands twice among its hits")
    values = record["measures"].items()
    measures = {name: None if value is None else _finite(value) for name, value in values}
    return _Row(query, hits, dict(record["answers"]), measures)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no finite number")
    return number


def _parsed(file: Path, make: Any) -> Iterator[Any]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                made = make(json.loads(line))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise _broken(file, error, number) from error
            yield made


def _broken(file: Path, error: Exception, line: int | None = None) -> UserError:
    place = f", line {line}" if line else ""
    return UserError(f"{file}{place} is broken ({type(error).__name__}: {error}); evaluate again")


def _write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
