"""A retriever and judged queries in; hits and retrieval measures out."""

from collections.abc import Sequence
from pathlib import Path

import torch
from ir_measures import Measure

from dalm import distributed
from dalm.errors import UserError
from dalm.eval.metrics import cutoff, measure_retrieval, parse_measure
from dalm.eval.results import Results
from dalm.eval.timing import Stopwatch
from dalm.io.evaluation_set import EvaluationSet
from dalm.models.retriever import Retriever
from dalm.retrieval.base import DenseSearcher, build_store
from dalm.retrieval.embedding_cache import encode_passages_cached

CUTOFFS = (1, 5, 10, 20, 50, 100)


def measures_of(wanted: Sequence[str] | None, top_k: int) -> list[Measure]:
    """Return the measures to take of `top_k` hits, the one to go by first.

    Raises:
        UserError: an unknown measure, or one that looks deeper than `top_k`.
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
                f"--measures {measure} looks at {cutoff(measure)} passages, and --top-k {top_k} "
                f"finds no more than that; add --top-k {cutoff(measure)}"
            )
    return measures


def search(
    retriever: Retriever,
    asked: EvaluationSet,
    measures: Sequence[Measure],
    *,
    top_k: int,
    index: str,
    cache: Path | None,
    watch: Stopwatch,
) -> Results:
    """Find the best passages of every query, and measure them."""
    passages = list(asked.passages.values())
    with watch.stage("encoding passages"):
        mine = distributed.share([passage.text for passage in passages])
        vectors = encode_passages_cached(retriever, mine, cache)
        whole = (
            torch.stack(distributed.gather_shares(list(vectors)))
            if distributed.world_size() > 1
            else vectors
        )
    watch.count("encoding passages", len(passages), "passages")
    with watch.stage("searching"):
        store = build_store(index, passages, whole)
        queries = [query.query for query in asked.queries]
        hits = DenseSearcher(retriever, store).search(queries, top_k)
    watch.count("searching", len(hits), "questions")
    relevant = [query.relevant for query in asked.queries]
    return Results(
        name="",
        queries=asked.queries,
        hits=hits,
        measures=measure_retrieval(hits, relevant, measures),
        gold={p: asked.passages[p] for q in asked.queries for p in q.gold if p in asked.passages},
    )
