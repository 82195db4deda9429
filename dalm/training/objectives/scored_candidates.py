"""Define the base of the objectives that train a retriever on a teacher's scores."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dalm.config import RetrieverOnly
from dalm.models.retriever import Retriever
from dalm.training.data.batches import Batch
from dalm.training.objectives.contrastive import (
    MASKED,
    Pairs,
    contrast,
    inner_products,
    sharpness_of,
)
from dalm.training.objectives.retriever_objective import RetrieverObjective, vector_options


class ScoredCandidates(RetrieverObjective):
    """Train with total = loss on the teacher's scores + contrastive_weight · info_nce.

    The first is a mean over queries, each with K candidates of its own. The second is over all
    passages of the batch, of all ranks, and the queries with a positive.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    def __init__(
        self,
        retriever: Retriever,
        *,
        scale: float | None = None,
        contrastive_weight: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(retriever, **options)
        self.scale = scale or sharpness_of(retriever).scale
        self.contrastive_weight = contrastive_weight

    @abstractmethod
    def per_query(
        self, similarity: Float[Tensor, "B K"], batch: Batch
    ) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        """Return the loss of each query on the teacher's scores, and what is logged of it.

        The similarity is −inf where a query has fewer candidates.
        """

    def loss(
        self, queries: Float[Tensor, "B dim"], passages: Float[Tensor, "own dim"], batch: Batch
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of a batch with these vectors, and what is logged of it."""
        candidates = batch["candidates"]
        similarity = inner_products(queries, passages[candidates.clamp(min=0)])
        similarity = similarity.masked_fill(candidates < 0, MASKED)
        each, parts = self.per_query(similarity, batch)
        total = each.mean()
        parts |= {self.name: total, "agreement": agreement(similarity, batch["scores"])}
        if self.contrastive_weight:
            golds = passages[candidates[:, 0]]
            contrasted = contrast(
                Pairs(
                    queries,
                    torch.cat([golds, passages]),
                    batch["false_negatives"],
                    batch["hard_negatives"],
                    batch["known"],
                ),
                self.scale,
            )
            total = total + self.contrastive_weight * contrasted["info_nce"]
            parts |= contrasted
        return total, {name: part.detach() for name, part in parts.items()}


def shared_options(config: RetrieverOnly) -> dict[str, Any]:
    """Return the options that all objectives on a teacher's scores take."""
    weights = {"scale": config.logit_scale, "contrastive_weight": config.contrastive_weight}
    return weights | vector_options(config)


def agreement(similarity: Float[Tensor, "B K"], scores: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Return the share of the queries whose most similar candidate has the teacher's best score."""
    best = scores.gather(1, similarity.detach().argmax(1, keepdim=True))[:, 0]
    return (best == scores.amax(1)).to(similarity).mean()
