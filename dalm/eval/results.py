"""Hold a system's results on judged queries; save them as a run folder, load them or a TREC run.

A run folder holds

    results.json    name, facts (settings, versions, seconds …), means with their intervals
    queries.jsonl   a line per query: relevant passages, hits with scores, answers, measures
    passages.jsonl  the passages that were found or are relevant, with their provenance
    verdicts.jsonl  a line per verdict of an LLM judge, if there was one, with its reasons
    run.trec, qrels.trec   hits and judgements in TREC's formats
    manifest.json   sizes and hashes of these files; written last
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from dalm import artifacts, file_reading, stop_signals
from dalm.errors import UserError
from dalm.eval.metrics import Column
from dalm.eval.retrieval_metrics import cutoff, in_rank_order, measure_retrieval, parse_measure
from dalm.io.trec import Qrels, read_qrels, read_run, write_qrels, write_run
from dalm.rag.citations import without_citations
from dalm.records import Hit, JudgedQuery, Passage

logger = logging.getLogger(__name__)

SUMMARY, QUERIES, PASSAGES = "results.json", "queries.jsonl", "passages.jsonl"
VERDICTS, RUN, QRELS = "verdicts.jsonl", "run.trec", "qrels.trec"
FILES = (SUMMARY, QUERIES, PASSAGES, VERDICTS, RUN, QRELS)
BASELINE = "baseline"
"""Name of the baseline's run folder within the system's."""
FORMAT = 1
REMEDY = "evaluate again"
TREC_MEASURES = ("nDCG@10", "RR@10", "R@1", "R@5", "R@10", "R@100")
"""Measures of a TREC run by default."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Results:
    """A system's hits, answers and values, each column in the order of `queries`.

    `answers` are keyed by the passages read: `found`, or one of the bounds (`gold`, `random`,
    `none`). `reranked`, if there was a reranker, holds the hits that were read instead of the first
    of `hits`. `gold` are the relevant passages by id, where their texts are known. `verdicts` are
    those of an LLM judge, with its reasons. `facts` explain the figures: settings, versions,
    seconds.
    """

    name: str
    queries: Sequence[JudgedQuery]
    hits: Sequence[Sequence[Hit]]
    measures: Mapping[str, Column]
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gold: Mapping[str, Passage] = field(default_factory=dict, repr=False)
    reranked: Sequence[Sequence[Hit]] = ()
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

    @property
    def names_documents(self) -> bool:
        """Whether any query shares a document with others, or could."""
        return any(query.group not in ("", query.id) for query in self.queries)

    @cached_property
    def rankings(self) -> list[list[Hit]]:
        """Each query's hits in the order in which they are measured."""
        return [in_rank_order(hits) for hits in self.hits]

    @cached_property
    def passages(self) -> dict[str, Passage]:
        """The passages that are relevant or were found, by id."""
        lists = (*self.hits, *self.reranked)
        found = {hit.passage.id: hit.passage for hits in lists for hit in hits}
        return dict(self.gold) | found

    def rank(self, query: int) -> int | None:
        """Return the rank of the first relevant passage of the query at this position, if found."""
        relevant = set(self.queries[query].gold)
        ranking = enumerate(self.rankings[query], start=1)
        return next((rank for rank, hit in ranking if hit.passage.id in relevant), None)


def uncited_answers(results: Results) -> list[str]:
    """Return the answers from the passages found, without citations if they were asked for."""
    answers = results.answers["found"]
    return [without_citations(each) if results.facts.get("citations") else each for each in answers]


# Run folders


def save(folder: Path, results: Results, summary: Mapping[str, Any]) -> None:
    """Write the run folder, the manifest last; `summary` joins name and facts in results.json."""
    discard(folder)
    try:
        with stop_signals.put_off():
            _write(folder, results, summary)
    except BaseException:
        discard(folder)  # it would keep a full disk full
        raise


def _write(folder: Path, results: Results, summary: Mapping[str, Any]) -> None:
    _write_lines(folder / QUERIES, _records(results))
    _write_lines(folder / PASSAGES, (each.to_dict() for each in results.passages.values()))
    if results.verdicts:
        _write_lines(folder / VERDICTS, results.verdicts)
    if any(results.hits):
        names = [query.id for query in results.queries]
        write_run(folder / RUN, results.name, dict(zip(names, results.rankings, strict=True)))
        write_qrels(folder / QRELS, {query.id: query.relevant for query in results.queries})
    head = {"format": FORMAT, "name": results.name, "queries": len(results.queries)}
    content = {**head, **summary, "facts": results.facts}
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2)
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
    head = file_reading.read_json(folder / SUMMARY, REMEDY)
    try:
        name, facts = str(head["name"]), dict(head["facts"])
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(str(folder / SUMMARY), error) from error
    passages = {each.id: each for each in _parsed(folder / PASSAGES, Passage.from_dict)}
    rows = list(_parsed(folder / QUERIES, lambda record: _row(record, passages)))
    if not rows:
        raise UserError(f"{folder / QUERIES} is empty; {REMEDY}")
    queries, hits, reranked, answers, measures = map(list, zip(*rows, strict=True))
    if len({query.id for query in queries}) < len(queries):
        raise UserError(f"{folder / QUERIES}: a query occurs on two lines; {REMEDY}")
    has_verdicts = (folder / VERDICTS).is_file()
    verdicts = list(_parsed(folder / VERDICTS, dict)) if has_verdicts else ()
    try:
        artifacts.verify(folder)
    except file_reading.DamagedError as error:
        raise file_reading.DamagedError(f"{error}; {REMEDY}") from error
    return Results(
        name=name,
        queries=queries,
        hits=hits,
        measures={name: [row.get(name) for row in measures] for name in measures[0]},
        answers={read: [row.get(read, "") for row in answers] for read in answers[0]},
        gold={p: passages[p] for query in queries for p in query.gold if p in passages},
        reranked=reranked if any(reranked) else (),
        verdicts=verdicts,
        facts=facts,
    )


def _records(results: Results) -> Iterator[dict[str, Any]]:
    """Yield a record per query, with its hits in the order in which they were measured."""
    for i, query in enumerate(results.queries):
        yield {
            **asdict(query),
            "relevant": dict(query.relevant),
            "rank": results.rank(i),
            "hits": [_hit(hit) for hit in results.rankings[i]],
            **({"reranked": list(map(_hit, results.reranked[i]))} if results.reranked else {}),
            "answers": {read: texts[i] for read, texts in results.answers.items()},
            "measures": {name: column[i] for name, column in results.measures.items()},
        }


def _hit(hit: Hit) -> dict[str, Any]:
    passage = hit.passage
    record = {"id": passage.id, "score": hit.score, "source": passage.source, "page": passage.page}
    return {key: value for key, value in record.items() if value not in ("", None)}


def _row(
    record: dict[str, Any], passages: Mapping[str, Passage]
) -> tuple[JudgedQuery, list[Hit], list[Hit], dict[str, str], dict[str, float | None]]:
    """Return a query with its hits, those of a reranker, answers and values."""
    query = JudgedQuery(
        id=str(record["id"]),
        query=str(record["query"]),
        relevant={str(passage): int(grade) for passage, grade in record["relevant"].items()},
        references=tuple(record["references"]),
        answerable=record["answerable"],
        group=str(record["group"]),
    )
    hits = _hits(record["hits"], passages)
    reranked = _hits(record.get("reranked", ()), passages)
    values = record["measures"].items()
    measures = {name: None if value is None else _finite(value) for name, value in values}
    return query, hits, reranked, dict(record["answers"]), measures


def _hits(records: Iterable[dict[str, Any]], passages: Mapping[str, Passage]) -> list[Hit]:
    hits = [
        Hit(passages.get(hit["id"]) or Passage(hit["id"], ""), _finite(hit["score"]))
        for hit in records
    ]
    if len({hit.passage.id for hit in hits}) < len(hits):
        raise ValueError("a passage occurs twice among its hits")
    return hits


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _parsed(file: Path, make: Callable[[dict[str, Any]], T]) -> Iterator[T]:
    for number, record in file_reading.read_jsonl(file, REMEDY):
        try:
            made = make(record)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _damaged(f"{file}, line {number}", error) from error
        yield made


def _damaged(where: str, error: Exception) -> file_reading.DamagedError:
    return file_reading.DamagedError(
        f"{where} is damaged ({type(error).__name__}: {error}); {REMEDY}"
    )


def _write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with artifacts.write_file(file) as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


# Saved runs


def read_runs(
    names: Sequence[str], qrels_file: str | None, measures: Sequence[str] | None
) -> list[Results]:
    """Read runs, each a folder or a TREC file; `measures`, if given, are computed from the hits.

    Raises:
        UserError: a run is missing or damaged, has no judgements, or nothing is relevant by them.
    """
    if qrels_file:
        _check_own(Path(qrels_file))
    qrels = read_qrels(qrels_file) if qrels_file else None
    found = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found.append(_load_folder(path, measures))
            continue
        if not path.is_file():
            raise UserError(f"no run {name!r}: name a folder of dalm eval-… or a TREC run file")
        if qrels is None:
            raise UserError(f"{name} is a file: a TREC run needs its judgements, --qrels FILE")
        found.append(_load_trec(path, qrels, measures or TREC_MEASURES))
    if qrels is not None and all(Path(name).is_dir() for name in names):
        raise UserError("--qrels has no effect on run folders, which have their own judgements")
    for name, results in zip(names, found, strict=True):
        if all(value is None for column in results.measures.values() for value in column):
            raise UserError(
                f"{name}: no passage is relevant to any of its {len(results.queries)} queries, so "
                "that nothing can be measured; name judgements with a grade of 1 or more"
            )
    return found


def _check_own(file: Path) -> None:
    """Refuse a TREC file of a run folder that is no longer what was written there."""
    if (file.parent / SUMMARY).is_file():
        try:
            artifacts.verify(file.parent, only=file.name)
        except file_reading.DamagedError as error:
            raise file_reading.DamagedError(f"{error}; {REMEDY}") from error


def _load_folder(folder: Path, measures: Sequence[str] | None) -> Results:
    results = load(folder)
    if measures is None:
        return results
    wanted = [parse_measure(each) for each in measures]
    settings = results.facts.get("settings", {})
    deepest = max(int(settings.get("top_k", 0)), *map(len, results.hits))
    for measure in wanted:
        if (cutoff(measure) or 0) > deepest:
            raise UserError(
                f"--measures {measure}: {folder} holds {deepest} passages a query; evaluate again "
                f"with --top-k {cutoff(measure)}"
            )
    relevant = [query.relevant for query in results.queries]
    return replace(results, measures=measure_retrieval(results.hits, relevant, wanted))


def _load_trec(path: Path, qrels: Qrels, measures: Sequence[str]) -> Results:
    """Measure a run as trec_eval -c does: a judged query that it lacks counts as 0."""
    _check_own(path)
    run = read_run(path)
    known = [query for query in qrels if query in run]
    if not known:
        raise UserError(
            f"{path}: none of its {len(run)} queries is judged, such as {next(iter(run))!r}; the "
            f"judgements are of {next(iter(qrels))!r} …: name those of this run"
        )
    if lacking := len(qrels) - len(known):
        logger.warning("%s lacks %d judged queries; they count as 0", path, lacking)
    if unjudged := len(run) - len(known):
        logger.warning("%s holds %d queries without judgements, left out", path, unjudged)
    hits = [
        [Hit(Passage(passage, ""), score) for passage, score in run.get(query, {}).items()]
        for query in qrels
    ]
    return Results(
        name=path.name,
        queries=[JudgedQuery(id=q, query=q, relevant=grades) for q, grades in qrels.items()],
        hits=hits,
        measures=measure_retrieval(hits, list(qrels.values()), list(measures)),
        facts={"run": str(path)},
    )
