"""Queries and their gold passages, embedded: the scores and the loss of contrastive training."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.collectives import gather, total
from dalm.distributed import rank, world_size
from dalm.models.retriever import Retriever
from dalm.training import losses
from dalm.training.data.batches import Batch

MASKED = float("-inf")


class Pairs:
    """The embedded batch: this rank's rows and, for the negatives, every rank's.

    `known` marks the queries whose gold passage is known, all if it is None; the others, and what
    stands in their passages' place, take no part.
    """

    def __init__(
        self,
        queries: Float[Tensor, "B dim"],
        passages: Float[Tensor, "C dim"],
        keys: Int[Tensor, "C"],
        known: Bool[Tensor, "B"] | None = None,
    ) -> None:
        self.queries, self.passages, self.keys = queries, passages, keys
        self.size = len(queries)
        self.known = known
        self.rank, self.ranks = rank(), world_size()
        # Hard negatives stay where they are; gold passages and queries travel.
        self.all_queries = gather(queries)
        self.all_gold = gather(passages[: self.size])
        self.all_keys = gather(keys[: self.size])
        self.all_known = None if known is None else gather(known)

    def gold_columns(self) -> Int[Tensor, "B"]:
        """Return the column of each query's gold passage, and the row of each passage's query."""
        start = self.rank * self.size
        return torch.arange(start, start + self.size, device=self.queries.device)

    def scores(self, scale: float) -> Float[Tensor, "B C"]:
        """Return scale · cosine of this rank's queries with all gold passages and own negatives."""
        columns = torch.cat([self.all_gold, self.passages[self.size :]])
        keys = torch.cat([self.all_keys, self.keys[self.size :]])
        return self._masked(scale * cosines(self.queries, columns), keys)

    def scores_by_passage(self, scale: float) -> Float[Tensor, "B Q"]:
        """Return scale · cosine of this rank's gold passages with all queries."""
        scores = scale * cosines(self.passages[: self.size], self.all_queries)
        return self._masked(scores, self.all_keys)

    def local_scores(self, scale: float) -> Float[Tensor, "B C"]:
        """Return scale · cosine of this rank's queries with this rank's passages."""
        own = torch.arange(self.size, device=self.queries.device)
        wrong = losses.false_negatives(self.keys[: self.size], self.keys, own)
        return (scale * cosines(self.queries, self.passages)).masked_fill(wrong, MASKED)

    def share(self) -> float:
        """Return by what this rank's mean over known queries is to be multiplied.

        So that the mean over ranks is the mean over all known queries.
        """
        if self.known is None:
            return 1.0
        mine = float(self.known.sum())
        everyone = total(mine, self.queries.device)
        return mine * self.ranks / everyone if everyone else 0.0

    def _masked(self, scores: Tensor, keys: Tensor) -> Tensor:
        wrong = losses.false_negatives(self.keys[: self.size], keys, self.gold_columns())
        if self.all_known is not None:
            wrong[:, : len(self.all_known)] |= ~self.all_known
        return scores.masked_fill(wrong, MASKED)


def cosines(
    queries: Float[Tensor, "B dim"], passages: Float[Tensor, "*B C dim"]
) -> Float[Tensor, "B C"]:
    """Return the products of unit vectors, of all queries with all passages or of each with its C.

    Not under autocast: a cosine rounded to bf16 is off by up to 0.002, and the scale or the
    temperature makes tenths of a nat of it.
    """
    with torch.autocast(queries.device.type, enabled=False):
        if passages.ndim == 2:
            return queries @ passages.T
        return torch.einsum("bd,bpd->bp", queries, passages)


def embed_pairs(retriever: Retriever, batch: Batch) -> Pairs:
    """Embed a batch's queries and passages, with gradient."""
    queries = retriever.embed(batch["query"], "query")
    return Pairs(queries, retriever.embed(batch["passage"], "passage"), batch["keys"])


def contrast(pairs: Pairs, scale: float) -> dict[str, Float[Tensor, ""]]:
    """Return the symmetric InfoNCE over all ranks and the share of queries that find their gold."""
    own, share = pairs.gold_columns(), pairs.share()
    by_query, by_passage = pairs.scores(scale), pairs.scores_by_passage(scale)
    known = slice(None) if pairs.known is None else pairs.known
    if not share:
        # Through the gathered ones: ranks that contrast something wait for this one's way back.
        nothing = 0 * (pairs.all_queries.sum() + pairs.all_gold.sum())
        return {"info_nce": nothing, "in_batch_accuracy": nothing.detach()}
    by_query, by_passage, own = by_query[known], by_passage[known], own[known]
    right = (by_query.detach().argmax(1) == own).float().mean()
    return {
        "info_nce": share * losses.info_nce(by_query, by_passage, own, own),
        "in_batch_accuracy": share * right,
    }
