"""Order what a search finds anew by a reranker, which reads each question with its passage."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from dalm.config.shared import Reranking
from dalm.models.loading import Placement
from dalm.models.reranker import Reranker, load_reranker
from dalm.records import Hit
from dalm.retrieval.base import Searcher

STAGE = "reranked"
"""Name of the reranker's score, and of the place by it, among those of a hit."""


class PairScorer(Protocol):
    """Score how well texts answer questions, as `dalm.models.reranker.Reranker` does."""

    def score_pairs(self, pairs: Sequence[tuple[str, str]], /) -> Sequence[float]:
        """Return the score of each question with a text; higher is better."""
        ...


class RerankedSearcher:
    """Find passages with a searcher, and order the best of them by a reranker.

    At least `top` are ordered, and all that are asked for. The reranker reads the text that the
    retriever has read: with its title if titles were prepended. Hits keep the scores of the stages
    before, and `relevant`: an index is calibrated by those, and only the order changes. Equal
    scores are in the order of the ids.
    """

    def __init__(
        self, searcher: Searcher, reranker: PairScorer, top: int = Reranking.rerank_top
    ) -> None:
        self.searcher, self.reranker, self.top = searcher, reranker, top

    def search(self, queries: Sequence[str], k: int, /) -> list[list[Hit]]:
        """Return at most k passages for each query, best first, with the reranker's scores."""
        found = self.searcher.search(queries, max(k, self.top))
        asked = zip(queries, found, strict=True)
        pairs = [(query, hit.passage.text) for query, hits in asked for hit in hits]
        scores = iter(self.reranker.score_pairs(pairs))
        return [ordered(hits, [next(scores) for _ in hits])[:k] for hits in found]


def ordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """Return hits in the order of a reranker's scores.

    They have its scores and ranks beside the earlier ones.
    """
    scored = [
        replace(hit, score=score, scores={**hit.scores, STAGE: score})
        for hit, score in zip(hits, scores, strict=True)
    ]
    best = sorted(scored, key=lambda hit: (-hit.score, hit.id))
    return [
        replace(hit, ranks={**hit.ranks, STAGE: rank}) for rank, hit in enumerate(best, start=1)
    ]


def reranked(searcher: Searcher, reranker: PairScorer | None, top: int) -> Searcher:
    """Return a searcher behind a reranker; without a reranker, the searcher."""
    return searcher if reranker is None else RerankedSearcher(searcher, reranker, top)


def reranker_of(settings: Reranking, placement: Placement) -> Reranker | None:
    """Load the reranker that a command's options name; None: they name none.

    Raises:
        UserError: it can't be loaded.
    """
    return None if settings.reranker is None else load_reranker(settings.reranker, placement)
