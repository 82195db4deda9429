"""Train a retriever on the differences between a teacher's scores of a question's candidates."""

import logging
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalm.config import RetrieverOnly
from dalm.models.retriever import Retriever
from dalm.training import losses
from dalm.training.data.batches import Batch, Rows
from dalm.training.data.scored_rows import ScoredRows
from dalm.training.objectives.scored_candidates import ScoredCandidates, shared_options

logger = logging.getLogger(__name__)

COSINE_MARGIN = 0.2
"""Difference between cosines that stands for the teacher's margin, in root mean square."""


class MarginMSE(ScoredCandidates):
    """Train with ((scale · (s_0 − s_k)) − (t_0 − t_k))², averaged over a question's candidates k.

    Candidate 0 is the teacher's positive, or its best one. `margin_scale` is how many of the
    teacher's units a similarity of 1 stands for.

    Source: Hofstätter et al. 2020 (arXiv:2010.02666), where it is 1: dot products can grow to any
    teacher's scores, cosines can't.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"scores", "margins"})
    name: ClassVar[str] = "margin_mse"
    label: ClassVar[str] = "distillation of the margins between a teacher's scores (MarginMSE)"

    def __init__(self, retriever: Retriever, *, margin_scale: float = 1.0, **options: Any) -> None:
        super().__init__(retriever, **options)
        self.margin_scale = margin_scale

    @classmethod
    def from_config(cls, config: RetrieverOnly, rows: Rows) -> Self:
        """Return the objective that the options ask for."""
        assert isinstance(rows, ScoredRows)
        scale = config.margin_scale or fitting_scale(rows)
        logger.info("margins    a similarity of 1 stands for %.3g of the teacher's units", scale)
        return cls(rows.retriever, margin_scale=scale, **shared_options(config))

    def per_query(
        self, similarity: Float[Tensor, "B K"], batch: Batch
    ) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        """Return the mean squared error of each query (`losses.margin_mse`)."""
        scores = batch["scores"]
        scores = (scores - scores[:, :1]).to(similarity)  # large ones lose digits
        return losses.margin_mse(self.margin_scale * similarity, scores), {}


def fitting_scale(rows: ScoredRows) -> float:
    """Return the default scale: 1 for dot products; for cosines by the teacher's margins."""
    if not rows.retriever.gives_unit_vectors:
        return 1.0
    margins = np.concatenate([scores[0] - scores[1:] for scores in rows.scores])
    return float(np.sqrt(np.square(margins).mean()) / COSINE_MARGIN)
