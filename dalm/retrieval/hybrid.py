"""Search by vectors, by words, or by both with their rankings fused."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalm.errors import UserError
from dalm.models.cut_texts import tell_queries_cut_by_index
from dalm.models.loading import Placement
from dalm.models.retriever import Retriever
from dalm.records import Hit
from dalm.retrieval.base import Encoder, Found, Ranked, SearchesBoth, VectorStore
from dalm.retrieval.conditions import Condition
from dalm.retrieval.index_folder import Generation
from dalm.retrieval.indexing import retriever_of
from dalm.retrieval.relevance import BEST, Relevance, relevance_of
from dalm.retrieval.where import parse_condition

Mode = Literal["dense", "text", "hybrid"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "text")
FUSED = "fused"
"""Name of the fused score among those of a hit."""
DENSE_WEIGHT = 0.5
"""Weight of the dense scores in hybrid search that isn't calibrated."""
POOL = 100
"""Hits of each ranking that are fused; of more that are asked for, the others follow them."""


class IndexSearcher:
    """Find passages in a vector store, by one of the modes.

    Hybrid search fuses the `POOL` best hits of both rankings by w · z(dense) + (1 - w) · z(text),
    where w is `dense_weight`. With a calibrated `relevance` the hits say whether they answer the
    query.
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
        """Return at most k passages for each query, best first, with scores and ranks by stage."""
        if self.relevance is None:
            return [[each.hit for each in found[:k]] for found in self._ranked(queries, k)]
        found = self._ranked(queries, max(k, BEST))
        return [
            self.relevance.judged(self.mode, query, ranking, k)
            for query, ranking in zip(queries, found, strict=True)
        ]

    def _ranked(self, queries: Sequence[str], k: int) -> list[list[Ranked]]:
        if self.mode == "text":
            return _named("text", self.store.text_search(queries, k, self.where))
        assert self.encoder is not None
        vectors = self.encoder.encode_queries(queries)
        if self.mode == "dense":
            return _named("dense", self.store.search(vectors, k, self.where))
        dense, text = self._both(vectors, queries, max(k, POOL))
        pairs = zip(_named("dense", dense), _named("text", text), strict=True)
        return [self.fuse(*found) for found in pairs]

    def _both(
        self, vectors: Float[Tensor, "B dim"], queries: Sequence[str], k: int
    ) -> tuple[Sequence[Sequence[Found]], Sequence[Sequence[Found]]]:
        if isinstance(self.store, SearchesBoth):
            return self.store.search_both(vectors, queries, k, self.where)
        dense = self.store.search(vectors, k, self.where)
        return dense, self.store.text_search(queries, k, self.where)

    def fuse(self, dense: Sequence[Hit | Ranked], text: Sequence[Hit | Ranked]) -> list[Ranked]:
        """Fuse two rankings of a query."""
        return weighted_sum([(self.dense_weight, dense), (1 - self.dense_weight, text)])


class TellingEncoder:
    """Encode with a retriever, and say of queries that they are longer than it reads."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever

    def encode_queries(self, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of queries."""
        tell_queries_cut_by_index(self.retriever, texts)
        return self.retriever.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages."""
        return self.retriever.encode_passages(texts)


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
        encoder = TellingEncoder(retriever_of(generation, placement))
    weight = generation.description.dense_weight
    return IndexSearcher(
        encoder,
        store,
        mode,
        dense_weight=DENSE_WEIGHT if weight is None else weight,
        where=condition,
        relevance=relevance_of(generation.folder),
    )


def _named(stage: str, found: Sequence[Sequence[Found]]) -> list[list[Ranked]]:
    return [
        [
            Ranked(each.id, each.score, {stage: each.score}, {stage: rank}, each)
            for rank, each in enumerate(ranking, start=1)
        ]
        for ranking in found
    ]


def weighted_sum(rankings: Sequence[tuple[float, Sequence[Hit | Ranked]]]) -> list[Ranked]:
    """Fuse rankings by the weighted sum of their z-scores over each ranking's `POOL` best hits.

    What a passage that a ranking lacks has is in `on_scale`. Those that are in no ranking's best
    follow, on the same scale: how many are asked for doesn't change which are first.
    """
    best = dict.fromkeys(hit.id for _, ranking in rankings for hit in ranking[:POOL])
    others = {hit.id for _, ranking in rankings for hit in ranking[POOL:]} - best.keys()
    scores = dict.fromkeys([*best, *others], 0.0)
    for weight, ranking in rankings:
        scale = _Scale.of(ranking[:POOL], list(best))
        for ids, part in ((best, ranking[:POOL]), (others, ranking)):
            known = _scores(part)
            for passage in ids:
                scores[passage] += weight * scale.z(known.get(passage))
    return _ordered([ranking for _, ranking in rankings], scores, best)


def on_scale(ranking: Sequence[Found], ids: Sequence[str]) -> list[float]:
    """Return the z-scores of passages, (score - mean) / standard deviation over the ranking.

    A passage that isn't in the ranking has the lowest score; or 0, which counts in mean and
    deviation, if the ranking has fewer than `POOL` hits: it holds all that share a word with the
    query. So a part number that is in one passage alone puts it first.
    """
    scale, known = _Scale.of(ranking, ids), _scores(ranking)
    return [scale.z(known.get(passage)) for passage in ids]


def _scores(ranking: Sequence[Found]) -> dict[str, float]:
    return {hit.id: hit.score for hit in ranking}


class _Scale(NamedTuple):
    """The scale of a ranking's scores; `lowest` is that of a passage which it lacks."""

    mean: float
    deviation: float
    lowest: float

    @classmethod
    def of(cls, ranking: Sequence[Found], ids: Sequence[str]) -> "_Scale":
        scores = _scores(ranking)
        if not scores:
            return cls(0.0, 1.0, 0.0)
        values = list(scores.values())
        lowest = min(values)
        if len(values) < POOL:
            lowest = 0.0
            values += [lowest] * sum(passage not in scores for passage in ids)
        return cls(float(np.mean(values)), float(np.std(values)) or 1.0, lowest)

    def z(self, score: float | None) -> float:
        return ((self.lowest if score is None else score) - self.mean) / self.deviation


def _ordered(
    rankings: Sequence[Sequence[Hit | Ranked]], scores: Mapping[str, float], best: Collection[str]
) -> list[Ranked]:
    """Return each passage once, the best first; equal scores are in the order of the ids."""
    fused: dict[str, Ranked] = {}
    for ranking in rankings:
        for hit in ranking:
            if hit.id not in fused:
                fused[hit.id] = Ranked(hit.id, scores[hit.id], {}, {}, hit)
            fused[hit.id].scores.update(hit.scores)
            fused[hit.id].ranks.update(hit.ranks)
    found = sorted(fused.values(), key=lambda each: (each.id not in best, -each.score, each.id))
    for rank, each in enumerate(found, start=1):
        each.scores[FUSED], each.ranks[FUSED] = each.score, rank
    return found
