"""Train a retriever contrastively: in-batch InfoNCE on queries and their gold passages."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.collectives import gather, gather_counted, total
from dalm.config import RetrieverOnly
from dalm.distributed import position
from dalm.models.retriever import Retriever
from dalm.training import losses
from dalm.training.data.batches import Batch, FalseNegatives, Rows
from dalm.training.objectives.retriever_objective import (
    RetrieverObjective,
    embed,
    vector_options,
)

MASKED = float("-inf")


class Sharpness(NamedTuple):
    """How a retriever's similarities become logits, unless options say otherwise."""

    scale: float
    """Factor in the contrastive loss."""
    temperature: float
    """Divisor in the prior over candidates."""


COSINE = Sharpness(scale=100.0, temperature=0.1)
"""For unit vectors, whose inner products are in [-1, 1]."""
DOT_PRODUCT = Sharpness(scale=1.0, temperature=1.0)
"""For vectors of any length: their inner products are logits as they are, as in Karpukhin et al.
2020 (arXiv:2004.04906) and in the prior of Lewis et al. 2020 (arXiv:2005.11401)."""


def sharpness_of(retriever: Retriever) -> Sharpness:
    """Return the default scale and temperature for a retriever's similarities."""
    return COSINE if retriever.gives_unit_vectors else DOT_PRODUCT


class Contrastive(RetrieverObjective):
    """Train a retriever on pairs: the other passages of the batch, of all ranks, are negatives."""

    name: ClassVar[str] = "contrastive"
    label: ClassVar[str] = "in-batch contrastive loss (symmetric InfoNCE)"

    def __init__(
        self,
        retriever: Retriever,
        scale: float | None = None,
        *,
        chunk: int | None = None,
        dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(retriever, chunk=chunk, dims=dims)
        self.scale = scale or sharpness_of(retriever).scale

    @classmethod
    def from_config(cls, config: RetrieverOnly, rows: Rows) -> Self:
        """Return the objective that the options ask for."""
        return cls(rows.retriever, config.logit_scale, **vector_options(config))

    def loss(
        self, queries: Float[Tensor, "B dim"], passages: Float[Tensor, "own dim"], batch: Batch
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the symmetric InfoNCE of the batch (`losses.info_nce`)."""
        pairs = Pairs(queries, passages, batch["false_negatives"], batch["hard_negatives"])
        parts = contrast(pairs, self.scale)
        return parts["info_nce"], {name: part.detach() for name, part in parts.items()}


class Pairs:
    """Hold an embedded batch: this rank's rows, and every rank's queries and passages.

    `passages` are this rank's gold ones, then its hard negatives, of which each rank r has
    `hard_negatives[r]`. `known` marks the queries whose gold passage is known (None: all); the
    others, and the rows in place of their passages, take no part in the loss.
    """

    def __init__(
        self,
        queries: Float[Tensor, "B dim"],
        passages: Float[Tensor, "own dim"],
        false_negatives: FalseNegatives,
        hard_negatives: Sequence[int] = (),
        known: Bool[Tensor, "B"] | None = None,
    ) -> None:
        self.queries, self.passages = queries, passages
        self.false_negatives = false_negatives
        self.size = len(queries)
        self.known = known
        self.rank, self.ranks = position()
        self.all_queries = gather(queries)
        self.all_gold = gather(passages[: self.size])
        self.all_negatives = gather_counted(passages[self.size :], hard_negatives)
        self.all_known = None if known is None else gather(known)

    def gold_columns(self) -> Int[Tensor, "B"]:
        """Return the column of each query's gold passage, and the row of each passage's query."""
        start = self.rank * self.size
        return torch.arange(start, start + self.size, device=self.queries.device)

    def scores(self, scale: float) -> Float[Tensor, "B C"]:
        """Return scale · similarity of this rank's queries with all gold passages and negatives."""
        columns = torch.cat([self.all_gold, self.all_negatives])
        scores = scale * inner_products(self.queries, columns)
        return self._masked(scores, self.false_negatives["by_query"])

    def scores_by_passage(self, scale: float) -> Float[Tensor, "B Q"]:
        """Return scale · similarity of this rank's gold passages with all queries."""
        scores = scale * inner_products(self.passages[: self.size], self.all_queries)
        return self._masked(scores, self.false_negatives["by_passage"])

    def candidate_scores(
        self, scale: float, no_candidates: Bool[Tensor, "B C"]
    ) -> Float[Tensor, "B C"]:
        """Return scale · similarity of this rank's queries with their possible candidates."""
        columns = self.passages
        if self.ranks > 1:
            columns = torch.cat([self.all_gold, self.all_negatives])
        return (scale * inner_products(self.queries, columns)).masked_fill(no_candidates, MASKED)

    def rank_weight(self) -> float:
        """Return the factor of this rank's mean over its known queries.

        With it, the mean over ranks is the mean over all known queries.
        """
        if self.known is None:
            return 1.0
        mine = float(self.known.sum())
        everyone = total(mine, self.queries.device)
        return mine * self.ranks / everyone if everyone else 0.0

    def _masked(self, scores: Tensor, excluded: Tensor) -> Tensor:
        if self.all_known is not None:
            excluded = excluded.clone()
            excluded[:, : len(self.all_known)] |= ~self.all_known
        return scores.masked_fill(excluded, MASKED)


def inner_products(
    queries: Float[Tensor, "B dim"], passages: Float[Tensor, "*B C dim"]
) -> Float[Tensor, "B C"]:
    """Return the inner products of all queries with all passages, or of each with its C.

    Those of unit vectors are cosines. Never under autocast: a cosine rounded to bf16 is off by up
    to 0.002, which the scale or the temperature turns into tenths of a nat.
    """
    with torch.autocast(queries.device.type, enabled=False):
        if passages.ndim == 2:
            return queries @ passages.T
        return torch.einsum("bd,bpd->bp", queries, passages)


def embed_pairs(retriever: Retriever, batch: Batch, chunk: int | None = None) -> Pairs:
    """Embed a batch's queries and passages, with gradient; `chunk` texts at a time if given."""
    vectors = embed(retriever, batch, chunk)
    return Pairs(*vectors, batch["false_negatives"], batch["hard_negatives"])


def contrast(pairs: Pairs, scale: float) -> dict[str, Float[Tensor, ""]]:
    """Return the symmetric InfoNCE over all ranks and the accuracy of ranking the gold first."""
    own, weight = pairs.gold_columns(), pairs.rank_weight()
    by_query, by_passage = pairs.scores(scale), pairs.scores_by_passage(scale)
    known = slice(None) if pairs.known is None else pairs.known
    if not weight:
        # Through the gathered rows: other ranks' backward passes wait for this one's.
        gathered = (pairs.all_queries, pairs.all_gold, pairs.all_negatives)
        nothing = 0 * torch.stack([rows.sum() for rows in gathered]).sum()
        return {"info_nce": nothing, "in_batch_accuracy": nothing.detach()}
    by_query, by_passage, own = by_query[known], by_passage[known], own[known]
    correct = (by_query.detach().argmax(1) == own).float().mean()
    return {
        "info_nce": weight * losses.info_nce(by_query, by_passage, own, own),
        "in_batch_accuracy": weight * correct,
    }
