"""Read saved evaluations: run folders, and TREC run files with their relevance judgements."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dalm.errors import UserError
from dalm.eval.results import Results, load
from dalm.eval.retrieval_metrics import cutoff, measure_retrieval, parse_measure
from dalm.io.trec import Qrels, read_qrels, read_run
from dalm.records import Hit, JudgedQuery, Passage

logger = logging.getLogger(__name__)

MEASURES = ("nDCG@10", "RR@10", "R@1", "R@5", "R@10", "R@100")


def read_runs(
    names: Sequence[str], qrels_file: str | None, measures: Sequence[str] | None
) -> list[Results]:
    """Read runs, each a folder or a TREC file; `measures`, if given, are computed from the hits.

    Raises:
        UserError: a run is missing or damaged, or a TREC file has no judgements.
    """
    qrels = read_qrels(qrels_file) if qrels_file else None
    used = False
    found = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found.append(_from_folder(path, measures))
            continue
        if not path.is_file():
            raise UserError(f"no run {name!r}: name a folder of dalm eval-… or a TREC run file")
        if qrels is None:
            raise UserError(f"{name} is a file: a TREC run needs its judgements, --qrels FILE")
        used = True
        found.append(_from_trec(path, qrels, measures or MEASURES))
    if qrels is not None and not used:
        raise UserError("--qrels has no effect on run folders, which have their own judgements")
    return found


def _from_folder(folder: Path, measures: Sequence[str] | None) -> Results:
    results = load(folder)
    if measures is None:
        return results
    wanted = [parse_measure(each) for each in measures]
    deepest = max(map(len, results.hits))
    for measure in wanted:
        if (cutoff(measure) or 0) > deepest:
            raise UserError(
                f"--measures {measure}: {folder} holds {deepest} passages a query; evaluate again "
                f"with --top-k {cutoff(measure)}"
            )
    relevant = [query.relevant for query in results.queries]
    return replace(results, measures=measure_retrieval(results.hits, relevant, wanted))


def _from_trec(path: Path, qrels: Qrels, measures: Sequence[str]) -> Results:
    """Measure a run as trec_eval -c does: a judged query that it lacks counts as 0."""
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
