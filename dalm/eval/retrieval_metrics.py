"""Compute retrieval metrics with ir_measures.

Measures are read and written in the notation of the literature, as in `R@10`:

    R@k        recall@k     fraction of the relevant passages that are among the first k
    P@k        precision@k  fraction of the first k places that hold a relevant passage
    Success@k  hit rate@k   1 if a relevant passage is among the first k, else 0
    RR@k       MRR@k        1 / rank of the first relevant passage, 0 beyond k; MRR is its mean
    AP@k       MAP@k        mean over the relevant passages of the precision at their ranks
    nDCG@k     nDCG@k       discounted gain grade / log2(rank + 1), over that of the best ranking
    Rprec      R-precision  precision at R, the number of relevant passages

The cutoff of RR, AP and nDCG is optional. `R(rel=2)@10` counts grades of 2 and above as relevant.
"""

import ctypes
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import ir_measures
from ir_measures import Measure

from dalm.errors import UserError
from dalm.records import Hit
from dalm.retrieval.reranking import STAGE

LABELS = {
    "R": "recall",
    "P": "precision",
    "Success": "hit rate",
    "RR": "MRR",
    "AP": "MAP",
    "nDCG": "nDCG",
    "Rprec": "R-precision",
}
"""The names of the measures in tables and sentences, in the order of the report."""
_ALIASES = {name.lower(): name for name in LABELS}
_ALIASES |= {label.lower(): name for name, label in LABELS.items()}
_ALIASES |= {"hits": "Success", "hit": "Success", "hit_rate": "Success", "hit-rate": "Success"}
CUTOFFS = (1, 5, 10, 20, 50, 100)
"""Values of k at which recall is measured by default, up to the number of hits."""

Relevant = Collection[str] | Mapping[str, int]


def parse_measure(text: str) -> Measure:
    """Parse a measure: `nDCG@10`, `R@5`, `RR`, or by its label, `recall@5`, `MRR@10`.

    Raises:
        UserError: the name is unknown, or the cutoff is missing or not a positive integer.
    """
    match = re.fullmatch(r"\s*([\w -]+?)\s*(\([^)]*\))?\s*(?:@\s*(\d+))?\s*", text)
    name = _ALIASES.get(match[1].lower()) if match else None
    if match is None or name is None:
        raise UserError(f"no measure {text!r}; known are {', '.join(LABELS)}, as in nDCG@10")
    if name in ("R", "P", "Success") and match[3] is None:
        raise UserError(f"measure {text!r} needs a cutoff, as in {name}@10")
    if match[3] is not None and (name == "Rprec" or int(match[3]) < 1):
        raise UserError(f"measure {text!r}: a cutoff is at least 1, and Rprec has none")
    try:
        return ir_measures.parse_measure(
            f"{name}{match[2] or ''}" + (f"@{int(match[3])}" if match[3] else "")
        )
    except Exception as error:  # ir_measures' parser raises errors of any kind
        raise UserError(f"measure {text!r} can't be read; write it as R(rel=2)@10") from error


def retrieval_measures(wanted: Sequence[str] | None, top_k: int) -> list[Measure]:
    """Return the measures to take of `top_k` hits, the primary one first.

    Raises:
        UserError: an unknown measure, or one with a cutoff beyond `top_k`.
    """
    if wanted is None:
        deep = min(10, top_k)
        depths = sorted({k for k in CUTOFFS if k < top_k} | {top_k})
        wanted = [f"nDCG@{deep}", f"RR@{deep}", *(f"R@{k}" for k in depths)]
        wanted += [f"P@{deep}", f"Success@{deep}"]
    measures = list(dict.fromkeys(map(parse_measure, wanted)))
    for measure in measures:
        if (cutoff(measure) or 0) > top_k:
            raise UserError(
                f"--measures {measure} needs {cutoff(measure)} passages, and --top-k {top_k} finds "
                f"fewer; add --top-k {cutoff(measure)}"
            )
    return measures


def cutoff(measure: Measure) -> int | None:
    """Return the rank beyond which a measure doesn't look; None: all that was found."""
    found: int | None = measure.params.get("cutoff")
    return found


def in_rank_order(hits: Iterable[Hit]) -> list[Hit]:
    """Order hits as trec_eval does: fp32 score descending, then passage id descending.

    The scores decide, not the order of the list. Among equal scores the retriever has no
    preference, and their order comes from the table: where gold passages come first in a file,
    keeping it would favour them. A reranker has one: its sigmoid near 1 is told apart in fp64, as
    where it orders what is read.
    """

    def key(hit: Hit) -> tuple[float, float, bytes]:
        exact = hit.scores.get(STAGE, 0.0)
        return ctypes.c_float(hit.score).value, exact, hit.passage.id.encode()

    return sorted(hits, key=key, reverse=True)


def measure_retrieval(
    hits: Sequence[Sequence[Hit]],
    relevant: Sequence[Relevant],
    measures: Sequence[Measure | str],
) -> dict[str, list[float | None]]:
    """Return each measure's values, one per query, in the queries' order.

    `relevant` holds each query's relevant passage ids, or their grades (id → grade, relevant from
    1 on). A query without hits counts as 0, one without relevant passages as None, and places that
    were not filled count as irrelevant in P@k. Queries are identified by position.

    Raises ValueError for a passage that occurs twice in one ranking and for a score that is NaN.
    """
    if len(hits) != len(relevant):
        raise ValueError(f"{len(hits)} rankings, but relevant passages for {len(relevant)} queries")
    wanted = [parse_measure(each) if isinstance(each, str) else each for each in measures]
    grades = [dict(ids) if isinstance(ids, Mapping) else dict.fromkeys(ids, 1) for ids in relevant]
    qrels = {str(query): each for query, each in enumerate(grades) if max([0, *each.values()]) >= 1}
    run = {str(query): _places(query, ranking) for query, ranking in enumerate(hits)}
    values: dict[str, list[float | None]] = {
        str(measure): [0.0 if str(query) in qrels else None for query in range(len(hits))]
        for measure in wanted
    }
    found = {query: places for query, places in run.items() if places and query in qrels}
    if not found:
        return values
    for metric in ir_measures.iter_calc(wanted, qrels, found):
        values[str(metric.measure)][int(metric.query_id)] = float(metric.value)
    return values


def _places(query: int, ranking: Sequence[Hit]) -> dict[str, float]:
    """Return a strictly decreasing score for each hit.

    ir_measures computes RR@k by MS MARCO's program, which breaks ties by id ascending, and the
    others by trec_eval's, by id descending and in fp32. Without ties they agree.
    """
    places = {
        hit.passage.id: -float(rank) for rank, hit in enumerate(in_rank_order(ranking), start=1)
    }
    if any(math.isnan(hit.score) for hit in ranking):
        raise ValueError(f"a score of query {query} (from 0) is not a number")
    if len(places) < len(ranking):
        raise ValueError(f"a passage occurs twice among the hits of query {query} (from 0)")
    return places
