"""Where a query's candidate passages come from: the batch, or an index that lives with training.

Both give the same: the K passages of each query that the prior is over, its log-probabilities with
gradient, and the pairs that the contrastive loss is over.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.collectives import total
from dalm.models.loading import evaluating
from dalm.models.retriever import Retriever
from dalm.training import gradient_cache
from dalm.training.data.batches import Batch, KnowledgeBase
from dalm.training.objectives.contrastive import MASKED, Pairs, cosines, embed_pairs
from dalm.training.objectives.diagnostics import Reach, Seen, look_in_batch

logger = logging.getLogger(__name__)

FORWARD, BOTH_WAYS = 1.0, 3.0
"""Passes over the weights: the way back costs as much as two ways forward."""


class Candidates(NamedTuple):
    """The passages of each query that the prior is over, best first behind the gold one."""

    log_prior: Float[Tensor, "B K"]
    passages: list[list[list[int]]]
    """Their tokens for the generator, (B, K, length)."""
    pairs: Pairs | None
    """Queries and gold passages, for the contrastive loss."""
    parts: dict[str, Tensor]
    read: int
    """Tokens that the retriever read, without padding."""
    slots: int


class VectorIndex(Protocol):
    """What training asks of an index; `retrieval.living.LivingIndex` is one."""

    vectors: Tensor | None
    age: int
    work: float
    refreshes: int
    seconds: float

    def refresh(self, encode: Callable[[np.ndarray], Tensor], /) -> None:
        """Make every vector again."""

    def search(self, queries: Tensor, k: int, /) -> tuple[Tensor, Tensor]:
        """Return scores and places of the k best passages."""

    def lookup(self, places: Tensor, /) -> Tensor:
        """Return vectors of places."""

    def write(self, places: Tensor, vectors: Tensor, /) -> None:
        """Replace vectors of places."""

    def save(self, file: Path, /) -> None:
        """Write this rank's share."""

    def load(self, file: Path, /) -> str | None:
        """Read it again, or say why not."""


def choose(
    scores: Float[Tensor, "B P"], gold: Int[Tensor, "B"], forced: Bool[Tensor, "B"], most: int
) -> Int[Tensor, "B K"]:
    """Return the columns of the K best passages of each query, a forced gold one first.

    K = min(most, usable columns of the query that has fewest); columns at −inf are unusable.
    """
    scores = scores.detach()
    at_gold = torch.arange(scores.shape[1], device=scores.device) == gold[:, None]
    first = scores.masked_fill(at_gold & forced[:, None], float("inf"))
    usable = int((first > MASKED).sum(1).min())
    return first.topk(max(1, min(most, usable)), dim=1).indices


class InBatch:
    """The gold passages and the hard negatives of this rank's batch."""

    def __init__(self, retriever: Retriever, num_candidates: int, temperature: float) -> None:
        self.retriever = retriever
        self.num_candidates, self.temperature = num_candidates, temperature

    def __call__(self, batch: Batch) -> Candidates:
        """Return the batch's best passages for each query."""
        pairs = embed_pairs(self.retriever, batch)
        scores = pairs.local_scores(1 / self.temperature)
        own = torch.arange(len(scores), device=scores.device)
        columns = choose(scores, own, batch["forced"], self.num_candidates)
        pieces = batch["pieces"].passages
        sides = [batch["query"]["attention_mask"], batch["passage"]["attention_mask"]]
        return Candidates(
            scores.gather(1, columns).log_softmax(1),
            [[pieces[column] for column in row] for row in columns.tolist()],
            pairs,
            {},
            sum(int(side.sum()) for side in sides),
            sum(side.numel() for side in sides),
        )

    def look(self, batch: Batch) -> Seen:
        """Return what the batch's questions find among its passages."""
        return look_in_batch(self.retriever, batch)


class Searched:
    """The best passages of the whole knowledge base, found in an index and scored live.

    The index finds `over_retrieve`·K passages by vectors that may be stale; the encoder of this
    moment scores them and keeps K. Their gradient is recomputed, so that memory doesn't grow with
    K. Where passages don't move (`retriever.trains_passages`, or a resting retriever) the index
    is always right and its vectors are the live ones.
    """

    def __init__(
        self,
        retriever: Retriever,
        base: KnowledgeBase,
        index: VectorIndex,
        *,
        num_candidates: int,
        temperature: float,
        over_retrieve: int = 1,
        write_back: bool = False,
        refresh_budget: float = 0.0,
        contrasts: bool = True,
    ) -> None:
        self.retriever, self.base, self.index = retriever, base, index
        self.num_candidates, self.temperature = num_candidates, temperature
        self.over_retrieve, self.write_back = over_retrieve, write_back
        self.refresh_budget = refresh_budget
        self.contrasts = contrasts
        self.weights = worked_weights(retriever)

    # The index's life

    def begin_update(self, *, resting: bool) -> None:
        """Encode the index if that is due: at first, and whenever the budget has been earned."""
        if self.index.vectors is None:
            self._refresh()
        elif self.retriever.trains_passages and not resting:
            self.index.age += 1
            earned = self.refresh_budget * total(self.index.work, self.retriever.device)
            if self.refresh_budget and earned >= self._cost():
                self._refresh()

    def _refresh(self) -> None:
        self.index.refresh(self._encode)
        self.index.work = 0.0

    def _encode(self, places: np.ndarray) -> Tensor:
        return self.retriever.encode_tokens([self.base.tokens[p] for p in places], "passage")

    def _cost(self) -> float:
        return FORWARD * self.weights * float(self.base.tokens.lengths.sum())

    def count_work(self, passes: float, weights: float, tokens: float) -> None:
        """Add arithmetic, in weights times tokens, by which a refresh is earned.

        Counted, not timed: a resumed run, and every rank, has to refresh at the same update.
        """
        self.index.work += passes * weights * tokens

    def save(self, file: Path) -> None:
        """Write this rank's share of the index."""
        self.index.save(file)

    def load(self, file: Path) -> None:
        """Take it up again; it is built anew, by all ranks, if that can't be."""
        reason = self.index.load(file)
        if total(float(reason is not None), self.retriever.device):
            self.index.vectors = None
            reason = reason or "another process has lost its share"
        logger.info(
            "index      %s", f"built again: {reason}" if reason else f"taken up from {file}"
        )

    # A step

    def __call__(self, batch: Batch, *, resting: bool = False) -> Candidates:
        """Return the best passages of the knowledge base for each query."""
        queries, gold = self.retriever.embed(batch["query"], "query"), batch["gold"]
        statements = int((batch["hidden"] >= 0).any())
        _, found = self.index.search(queries, self.num_candidates * self.over_retrieve + statements)
        places = torch.cat([gold[:, None], found], 1)  # (B, P): gold, then found
        live = self.retriever.trains_passages and not resting
        vectors = self._live(places) if live else self.index.lookup(places)
        similarity = cosines(queries, vectors.to(queries.dtype))
        usable = self._usable(places, batch["forced"], batch["hidden"])
        scores = (similarity / self.temperature).masked_fill(~usable, MASKED)
        columns = choose(scores, torch.zeros_like(gold), batch["forced"], self.num_candidates)
        chosen = places.gather(1, columns)
        asked = batch["query"]["attention_mask"]
        encoded = self._tokens(chosen) if live else 0
        self.count_work(FORWARD if resting else BOTH_WAYS, self.weights, int(asked.sum()))
        self.count_work(BOTH_WAYS, self.weights, encoded)
        return Candidates(
            scores.gather(1, columns).log_softmax(1),
            [[self.base.pieces[place].tolist() for place in row] for row in chosen.tolist()],
            self._pairs(queries, vectors[:, 0], gold) if self.contrasts else None,
            {"index_age": torch.tensor(float(self.index.age), device=scores.device)},
            int(asked.sum()) + encoded,
            asked.numel() + encoded,
        )

    @torch.no_grad()
    def look(self, batch: Batch) -> Seen:
        """Return each query's gold or best passage, and how the index does on these queries."""
        queries = self.retriever.embed(batch["query"], "query")
        _, pool = self.index.search(queries, self.num_candidates * max(2, self.over_retrieve))
        stale = pool[:, : self.num_candidates]
        best = stale
        if self.retriever.trains_passages:
            similarity = cosines(queries, self._live(pool, keep=False))
            best = pool.gather(1, similarity.topk(stale.shape[1], dim=1).indices)
        first = torch.where(batch["gold"] < 0, best[:, 0], batch["gold"])
        figures = {
            "distinct_passages": float(len(stale.unique())),
            "stale_overlap": overlap(stale, best).item(),
            "refreshes": float(self.index.refreshes),
            "refresh_seconds": self.index.seconds,
        }
        reach = Reach(len(stale), stale.shape[1], min(len(self.base), stale.numel()))
        return [self.base.pieces[place].tolist() for place in first.tolist()], figures, reach

    def _usable(self, places: Tensor, forced: Tensor, hidden: Tensor) -> Bool[Tensor, "B P"]:
        """Mark the gold passage if it is forced, else where it was found, and what isn't hidden."""
        usable = (places >= 0) & (places != hidden[:, None])
        usable[:, 0] &= forced
        usable[:, 1:] &= ~((places[:, 1:] == places[:, :1]) & forced[:, None])
        return usable

    def _live(self, places: Int[Tensor, "B P"], *, keep: bool = True) -> Float[Tensor, "B P dim"]:
        """Return the vectors of this moment, with gradient at the memory of one batch of them."""
        distinct, inverse = places.clamp(min=0).unique(return_inverse=True)
        rows = distinct.cpu().numpy()

        def again(some: np.ndarray) -> Tensor:
            features = self.retriever.to_device(self.base.features(rows[some]))
            return self.retriever.embed(features, "passage")

        def first(some: np.ndarray) -> Tensor:
            with evaluating(self.retriever):
                return again(some)

        lengths = self.base.tokens.lengths[rows]
        plan = gradient_cache.Plan(first, again, lengths, len(places), _norms)
        vectors = gradient_cache.recomputed(plan, list(self.retriever.parameters()))
        if keep:
            self.count_work(FORWARD, self.weights, float(lengths.sum()))
        if keep and self.write_back:
            self.index.write(distinct, vectors.detach())
        return vectors[inverse]

    def _tokens(self, places: Tensor) -> int:
        return int(self.base.tokens.lengths[places.unique().cpu().numpy()].sum())

    def _pairs(self, queries: Tensor, gold_vectors: Tensor, gold: Tensor) -> Pairs:
        known = gold >= 0
        keys = torch.from_numpy(self.base.keys[gold.clamp(min=0).cpu().numpy()]).to(gold.device)
        return Pairs(queries, gold_vectors.to(queries.dtype), keys, known)


def overlap(stale: Int[Tensor, "B K"], live: Int[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Return the share of the live passages that stand among the stale ones, too."""
    same = (live[:, :, None] == stale[:, None, :]).any(2)
    return same.float().mean()


def _norms(gradient: Float[Tensor, "rows dim"], _: Tensor) -> Float[Tensor, "rows"]:
    return gradient.square().sum(1).sqrt()


def worked_weights(model: torch.nn.Module) -> float:
    """Return how many weights a token passes through: all but the tables of embeddings."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    return float(sum(p.numel() for p in model.parameters() if id(p) not in tables))
