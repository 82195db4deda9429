"""Search each query's passages with a retriever, and measure the hits."""

from collections.abc import Sequence

import torch
from ir_measures import Measure

from dalm import distributed
from dalm.config import EvalRetriever
from dalm.errors import UserError
from dalm.eval.results import Results
from dalm.eval.retrieval_metrics import cutoff, measure_retrieval, parse_measure
from dalm.eval.timing import Stopwatch
from dalm.io.evaluation_set import EvaluationSet
from dalm.models.retriever import Retriever
from dalm.retrieval.base import DenseSearcher, build_store
from dalm.retrieval.embedding_cache import encode_passages_cached, folder_of

CUTOFFS = (1, 5, 10, 20, 50, 100)


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


def search(
    retriever: Retriever,
    dataset: EvaluationSet,
    measures: Sequence[Measure],
    config: EvalRetriever,
    watch: Stopwatch,
) -> Results:
    """Find the best passages of every query, and measure them."""
    passages = list(dataset.passages.values())
    with watch.stage("encoding passages"):
        mine = distributed.share([passage.text for passage in passages])
        cache = folder_of(config.cache, config.cache_dir)
        vectors = encode_passages_cached(retriever, mine, cache)
        if distributed.world_size() > 1:
            vectors = torch.stack(distributed.gather_shares(list(vectors)))
    watch.count("encoding passages", len(passages), "passages")
    with watch.stage("searching"):
        store = build_store(config.index, passages, vectors)
        queries = [query.query for query in dataset.queries]
        hits = DenseSearcher(retriever, store).search(queries, config.top_k)
    watch.count("searching", len(hits), "questions")
    relevant = [query.relevant for query in dataset.queries]
    gold = (passage for query in dataset.queries for passage in query.gold)
    return Results(
        name="",
        queries=dataset.queries,
        hits=hits,
        measures=measure_retrieval(hits, relevant, measures),
        gold={name: dataset.passages[name] for name in gold if name in dataset.passages},
    )
