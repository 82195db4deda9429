"""Search by vectors, by words, or by both with their rankings fused."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from dalm.errors import UserError
from dalm.models.loading import Placement
from dalm.records import Hit
from dalm.retrieval.base import Encoder, VectorStore
from dalm.retrieval.conditions import Condition
from dalm.retrieval.index_folder import Generation
from dalm.retrieval.indexing import retriever_of
from dalm.retrieval.relevance import BEST, Relevance, relevance_of
from dalm.retrieval.where import parse_condition

Mode = Literal["dense", "text", "hybrid"]
DENSE_WEIGHT = 0.5
"""Weight of the dense scores in hybrid search that isn't calibrated."""
POOL = 100
"""Hits of each ranking that are fused, at least."""


class IndexSearcher:
    """Find passages in a vector store, by one of the modes.

    Hybrid search fuses the best hits of both rankings by w · z(dense) + (1 - w) · z(text), where w
    is `dense_weight`. With a calibrated `relevance` the hits say whether they answer the query.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        store: VectorStore,
        mode: Mode = "hybrid",
        *,
        dense_weight: float = DENSE_WEIGHT,
        where: Condition | None = None,
        relevance: Relevance | None = None,
    ) -> None:
        self.encoder, self.store, self.mode = encoder, store, mode
        self.dense_weight, self.where, self.relevance = dense_weight, where, relevance

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return at most k passages for each query, best first, with the scores of each stage."""
        if self.relevance is None:
            return [hits[:k] for hits in self._ranked(queries, k)]
        found = self._ranked(queries, max(k, BEST))
        return [
            self.relevance.judged(self.mode, query, hits, k)
            for query, hits in zip(queries, found, strict=True)
        ]

    def _ranked(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if self.mode == "text":
            return _named("text", self.store.text_search(queries, k, self.where))
        assert self.encoder is not None
        pool = k if self.mode == "dense" else max(k, POOL)
        vectors = self.encoder.encode_queries(queries)
        dense = _named("dense", self.store.search(vectors, pool, self.where))
        if self.mode == "dense":
            return dense
        text = _named("text", self.store.text_search(queries, pool, self.where))
        return [self.fuse(*found) for found in zip(dense, text, strict=True)]

    def fuse(self, dense: Sequence[Hit], text: Sequence[Hit]) -> list[Hit]:
        """Fuse two rankings of a query."""
        return weighted_sum([(self.dense_weight, dense), (1 - self.dense_weight, text)])


def check_question(question: str) -> None:
    """Refuse a question that can't be searched.

    Raises:
        UserError: it is empty, or an argument that isn't UTF-8.
    """
    if not question.strip():
        raise UserError("the question is empty; ask something")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the question {question[:60]!a} isn't UTF-8; type it again") from error


def searcher_of(
    generation: Generation,
    placement: Placement,
    mode: Mode,
    where: str | None,
    *,
    encoder: Encoder | None = None,
) -> IndexSearcher:
    """Return the searcher of an index, by the retriever that made it; for text none is loaded.

    `encoder` is that retriever if it is loaded already.

    Raises:
        UserError: the retriever is gone or another one, or a condition that can't be read.
    """
    store = generation.store
    condition = parse_condition(where, store.columns) if where else None
    if encoder is None and mode != "text":
        encoder = retriever_of(generation, placement)
    weight = generation.description.dense_weight
    return IndexSearcher(
        encoder,
        store,
        mode,
        dense_weight=DENSE_WEIGHT if weight is None else weight,
        where=condition,
        relevance=relevance_of(generation.folder),
    )


def _named(stage: str, found: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    return [[replace(hit, scores={stage: hit.score}) for hit in hits] for hits in found]


def weighted_sum(rankings: Sequence[tuple[float, Sequence[Hit]]]) -> list[Hit]:
    """Fuse rankings by the weighted sum of their z-scores over each ranking's own hits.

    What a passage that a ranking lacks has is in `on_scale`.
    """
    ids = list({hit.passage.id: None for _, ranking in rankings for hit in ranking})
    scores = dict.fromkeys(ids, 0.0)
    for weight, ranking in rankings:
        for passage, score in zip(ids, on_scale(ranking, ids), strict=True):
            scores[passage] += weight * score
    return _ordered([ranking for _, ranking in rankings], scores)


def on_scale(ranking: Sequence[Hit], ids: Sequence[str]) -> list[float]:
    """Return the z-scores of passages, (score - mean) / standard deviation over the ranking.

    A passage that isn't in the ranking has the lowest score; or 0, which counts in mean and
    deviation, if the ranking has fewer than `POOL` hits: it holds all that share a word with the
    query. So a part number that is in one passage alone puts it first.
    """
    scores = {hit.passage.id: hit.score for hit in ranking}
    if not scores:
        return [0.0] * len(ids)
    values = list(scores.values())
    lowest = min(values)
    if len(values) < POOL:
        lowest = 0.0
        values += [lowest] * sum(passage not in scores for passage in ids)
    mean, deviation = np.mean(values), np.std(values) or 1.0
    return [float((scores.get(passage, lowest) - mean) / deviation) for passage in ids]


def _ordered(rankings: Sequence[Sequence[Hit]], scores: Mapping[str, float]) -> list[Hit]:
    """Return each passage once, best first; equal scores are in the order of the ids."""
    stages: dict[str, Hit] = {}
    for ranking in rankings:
        for hit in ranking:
            known = stages.get(hit.passage.id, hit)
            stages[hit.passage.id] = replace(known, scores={**known.scores, **hit.scores})
    hits = (replace(hit, score=scores[key]) for key, hit in stages.items())
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))
