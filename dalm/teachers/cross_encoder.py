"""Score a passage by a reranker, which reads it together with the question."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from dalm.config import ScoreCandidates
from dalm.models import loading
from dalm.models.reranker import Reranker, load_reranker
from dalm.models.reranker_checks import check_is_there
from dalm.retrieval.embedding_cache import folder_of
from dalm.teachers.teacher import Pair, PairTeacher, required


class CrossEncoder(PairTeacher):
    """Score by the output of a reranker for question and passage, before its activation.

    A sigmoid would bring the scores of all good passages near 1: the logits tell them apart. The
    answer isn't read.
    """

    name: ClassVar[str] = "cross-encoder"
    label: ClassVar[str] = "reranker"
    unit: ClassVar[str] = "logit of the reranker"
    temperature: ClassVar[float] = 1.0
    margin: ClassVar[float] = 2.0
    is_graded: ClassVar[bool] = True
    block: ClassVar[int] = 256  # of about the same length, that are scored, and kept, at a time

    def __init__(self, reranker: Reranker, cache: Path | None) -> None:
        super().__init__(cache)
        self.reranker = reranker

    @classmethod
    def check(cls, settings: ScoreCandidates) -> None:
        """Refuse no reranker, one that isn't there, and another kind of model."""
        check_is_there(required(settings, cls.name, "reranker"))

    @classmethod
    def from_config(cls, settings: ScoreCandidates) -> Self:
        """Load the reranker."""
        placement = replace(loading.placement_of(settings), frozen=True)
        reranker = load_reranker(required(settings, cls.name, "reranker"), placement)
        return cls(reranker, folder_of(settings.cache, settings.cache_dir))

    @cached_property
    def identity(self) -> str:
        """A hash of weights, length and precision."""
        return f"{self.reranker.fingerprint()}-{self.reranker.placement.precision}"

    def order(self, pairs: Sequence[Pair]) -> list[int]:
        """Return the places of the pairs, of the longest passages first."""
        return sorted(range(len(pairs)), key=lambda row: -len(pairs[row].passage))

    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[Mapping[int, float]]:
        """Yield the scores batch by batch, of the longest passages first."""
        order = self.order(pairs)
        for start in range(0, len(order), self.block):
            rows = order[start : start + self.block]
            logits = self.reranker.logits([(pairs[row].query, pairs[row].passage) for row in rows])
            yield dict(zip(rows, logits.tolist(), strict=True))
