"""Rankings and relevant passages in, retrieval measures out. Computed by ir_measures.

A measure is written as papers write it: `R@10`. In words:

    R@k        recall@k     share of the relevant passages that stand among the first k
    P@k        precision@k  share of the first k places that hold a relevant passage
    Success@k  hit rate@k   1 if a relevant passage stands among the first k, else 0
    RR@k       MRR@k        1 / rank of the first relevant passage, 0 beyond k; MRR is its mean
    nDCG@k     nDCG@k       discounted gain 1 / log2(rank + 1), over that of the best ranking
"""

import ctypes
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import ir_measures
from ir_measures import RR, Measure, P, R, Success, nDCG

from dalm.errors import UserError
from dalm.records import Hit

FAMILIES = (R, P, Success, RR, nDCG)
WORDS = {"R": "recall", "P": "precision", "Success": "hit rate", "RR": "MRR", "nDCG": "nDCG"}

Relevant = Collection[str] | Mapping[str, int]


def in_words(measure: str) -> str:
    """Return a measure's name in words: `recall@10` for `R@10`; another name stays as it is."""
    family, at, k = measure.partition("@")
    return WORDS.get(family, family) + at + k


def in_rank_order(hits: Iterable[Hit]) -> list[Hit]:
    """Order hits as trec_eval does: fp32 score descending, then passage id descending.

    The scores decide, not the order of the list. Among equal scores the retriever expressed no
    preference, and its order is an accident of the table's: where gold passages stand first in a
    file, keeping it would favour them.
    """
    return sorted(hits, key=lambda hit: (_fp32(hit.score), hit.passage.id.encode()), reverse=True)


def measure_retrieval(
    hits: Sequence[Sequence[Hit]], relevant: Sequence[Relevant], ks: Sequence[int]
) -> dict[str, list[float]]:
    """Return recall, precision, hit rate, MRR and nDCG at each k, one value per query.

    `relevant` holds each query's relevant passage ids, or their grades (id → grade, relevant from
    1 on; only nDCG sees the difference). A query without hits counts as 0, and places that were
    not filled count as irrelevant in P@k. Queries are told apart by position, so the same question
    may stand in several rows; the lists returned follow the order of the queries.

    Raises UserError for a query without a relevant passage, for which recall isn't defined, and
    ValueError for a passage that stands twice in one ranking and for a score that is NaN.
    """
    if len(hits) != len(relevant):
        raise ValueError(f"{len(hits)} rankings, but relevant passages for {len(relevant)} queries")
    if not ks or min(ks) < 1:
        raise ValueError(f"the cutoffs must be 1 or more, not {list(ks)}")
    measures: list[Measure] = [family @ k for family in FAMILIES for k in sorted(set(ks))]
    values = {str(measure): [0.0] * len(hits) for measure in measures}
    if not hits:
        return values
    qrels = {str(query): _grades(query, ids) for query, ids in enumerate(relevant)}
    run = {str(query): _places(query, ranking) for query, ranking in enumerate(hits) if ranking}
    for metric in ir_measures.iter_calc(measures, qrels, run):
        values[str(metric.measure)][int(metric.query_id)] = float(metric.value)
    return values


def means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each measure's mean over the queries."""
    return {measure: math.fsum(column) / len(column) for measure, column in values.items()}


def _fp32(score: float) -> float:
    return ctypes.c_float(score).value


def _grades(query: int, ids: Relevant) -> dict[str, int]:
    grades = dict(ids) if isinstance(ids, Mapping) else dict.fromkeys(ids, 1)
    if not any(grade >= 1 for grade in grades.values()):
        raise UserError(
            f"query {query} (counted from 0) has no relevant passage: leave it out of the "
            "retrieval measures, or give its gold passage"
        )
    return grades


def _places(query: int, ranking: Sequence[Hit]) -> dict[str, float]:
    """Return a strictly falling score for each hit.

    ir_measures computes RR@k by MS MARCO's program, which breaks ties by id ascending, and the
    others by trec_eval's, by id descending and in fp32. Without ties they agree.
    """
    places = {
        hit.passage.id: -float(place) for place, hit in enumerate(in_rank_order(ranking), start=1)
    }
    if any(math.isnan(hit.score) for hit in ranking):
        raise ValueError(f"a score of query {query} (from 0) is not a number")
    if len(places) < len(ranking):
        raise ValueError(f"a passage stands twice among the hits of query {query} (from 0)")
    return places
