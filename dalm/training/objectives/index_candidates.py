"""Take each query's candidates from an index of the whole knowledge base, scored live.

The index is refreshed while the encoder is trained, as often as a budget of arithmetic allows.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.collectives import total
from dalm.errors import UserError
from dalm.models.batching import to_device
from dalm.models.loading import evaluating
from dalm.models.retriever import Retriever
from dalm.training import gradient_cache
from dalm.training.data.batches import Batch, KnowledgeBase
from dalm.training.objectives.candidates import Candidates, CandidateSource, VectorIndex, choose
from dalm.training.objectives.contrastive import MASKED, Pairs, inner_products
from dalm.training.objectives.diagnostics import Diagnosis, Reach
from dalm.training.objectives.objective import IndexForecast
from dalm.training.objectives.retriever_objective import embed_queries

logger = logging.getLogger(__name__)

FORWARD, FORWARD_AND_BACKWARD = 1.0, 3.0
"""Cost in passes over the weights: a backward pass costs about two forward passes."""


class IndexCandidates(CandidateSource):
    """Search the whole knowledge base, and score what is found with the current encoder.

    The index finds `over_retrieve`·K passages by vectors that may be stale; the current encoder
    ranks them, without dropout, and the best K are kept. These are embedded with gradient, and with
    dropout if the encoder has any, at the memory of one batch of them (see `gradient_cache`).
    Where training doesn't change the passages' vectors (`retriever.trains_passages` is false, or
    the retriever is frozen) the index is never stale and its vectors are used as they are.
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
        skip_gradient_below: float = 0.0,
        chunk: int | None = None,
    ) -> None:
        self.retriever, self.base, self.index = retriever, base, index
        self.chunk = chunk
        self.num_candidates, self.temperature = num_candidates, temperature
        self.over_retrieve, self.write_back = over_retrieve, write_back
        self.refresh_budget = refresh_budget
        self.contrasts = contrasts
        self.skip_gradient_below = skip_gradient_below
        self.weights = weights_per_token(retriever)

    # Keeping the index fresh

    def begin_update(self, *, frozen: bool) -> None:
        """Encode the index at the first update, and whenever the refresh budget allows it again."""
        if self.index.vectors is None:
            self._refresh()
        elif self.retriever.trains_passages and not frozen:
            self.index.age += 1
            earned = self.refresh_budget * total(self.index.work, self.retriever.device)
            cost = FORWARD * self.weights * float(self.base.tokens.lengths.sum())
            if self.refresh_budget and earned >= cost:
                self._refresh()

    def _refresh(self) -> None:
        self.index.refresh(self._encode)
        self.index.work = 0.0

    def _encode(self, places: np.ndarray) -> Tensor:
        return self.retriever.encode_tokens([self.base.tokens[p] for p in places], "passage")

    def count_work(self, passes: float, weights: float, tokens: float) -> None:
        """Add arithmetic, in weights times tokens, a fraction of which may go into refreshes.

        It is counted, not timed: a resumed run, and every rank, must refresh at the same update.
        """
        self.index.work += passes * weights * tokens

    def save(self, file: Path) -> None:
        """Write this rank's share of the index."""
        self.index.save(file)

    def load(self, file: Path) -> None:
        """Load this rank's share.

        Raises:
            UserError: a rank can't; an index built again would not be the one of this update.
        """
        reason = self.index.load(file)
        if total(float(reason is not None), self.retriever.device):
            reason = reason or "another process can't load its share"
            raise UserError(f"index {file}: {reason}; resume from another checkpoint")
        logger.info("index      loaded from %s", file)

    # A step

    def __call__(self, batch: Batch, *, frozen: bool = False) -> Candidates:
        """Return the best passages of the knowledge base for each query."""
        queries, gold = embed_queries(self.retriever, batch, self.chunk), batch["gold"]
        statements = int((batch["excluded"] >= 0).any())
        found = self._search(queries, self.num_candidates * self.over_retrieve + statements, batch)
        places = torch.cat([gold[:, None], found], 1)  # (B, P): gold, then found
        live = self.retriever.trains_passages and not frozen
        ranked = self._current(places) if live else self.index.lookup(places)
        scores = inner_products(queries.detach(), ranked.to(queries.dtype))
        scores = scores.masked_fill(~self._usable(places, batch), MASKED)
        columns = choose(scores, torch.zeros_like(gold), batch["force_gold"], self.num_candidates)
        chosen = places.gather(1, columns)
        vectors = torch.cat([ranked[:, :1], ranked.take_along_dim(columns[:, :, None], 1)], 1)
        if live:
            vectors = self._with_gradient(torch.cat([gold[:, None], chosen], 1))
        similarity = inner_products(queries, vectors.to(queries.dtype))
        mask = batch["query"]["attention_mask"]
        encoded = 0
        if live:
            encoded = int(self.base.tokens.lengths[chosen.unique().cpu().numpy()].sum())
        passes = FORWARD if frozen else FORWARD_AND_BACKWARD
        self.count_work(passes, self.weights, int(mask.sum()))
        self.count_work(FORWARD + FORWARD_AND_BACKWARD, self.weights, encoded)
        return Candidates(
            (similarity[:, 1:] / self.temperature).log_softmax(1),
            [[self.base.pieces[place].tolist() for place in row] for row in chosen.tolist()],
            chosen,
            self._pairs(queries, vectors[:, 0], batch) if self.contrasts else None,
            {"index_age": torch.tensor(float(self.index.age), device=scores.device)},
            int(mask.sum()) + encoded,
            mask.numel() + encoded,
        )

    @torch.no_grad()
    def diagnose(self, batch: Batch) -> Diagnosis:
        """Return each query's gold or best passage, and how the index does on these queries."""
        queries = self.retriever.embed(batch["query"], "query")
        _, pool = self.index.search(queries, self.num_candidates * max(2, self.over_retrieve))
        stale = pool[:, : self.num_candidates]
        best = stale
        if self.retriever.trains_passages:
            similarity = inner_products(queries, self._current(pool, keep=False))
            best = pool.gather(1, similarity.topk(stale.shape[1], dim=1).indices)
        first = torch.where(batch["gold"] < 0, best[:, 0], batch["gold"])
        figures = {
            "distinct_passages": float(len(stale.unique())),
            "stale_overlap": overlap(stale, best).item(),
            "refreshes": float(self.index.refreshes),
            "refresh_seconds": self.index.seconds,
        }
        reach = Reach(len(stale), stale.shape[1], min(len(self.base), stale.numel()))
        passages = [self.base.pieces[place].tolist() for place in first.tolist()]
        return Diagnosis(passages, figures, reach)

    def _search(self, queries: Tensor, count: int, batch: Batch) -> Int[Tensor, "B count"]:
        """Return the best passages of each query, those that can't be its candidates last."""
        most = batch["most_other_golds"]
        _, found = self.index.search(queries, count + most)
        if most:
            order = _among(found, batch["other_golds"]).long().argsort(dim=1, stable=True)
            found = found.gather(1, order)[:, :count]
        return found

    def _usable(self, places: Tensor, batch: Batch) -> Bool[Tensor, "B P"]:
        """Mark what may be a candidate: the gold passage once, and nothing that is excluded.

        Gold passages of the question that stand beside other answers only are excluded, too.
        """
        force_gold = batch["force_gold"]
        usable = (places >= 0) & (places != batch["excluded"][:, None])
        if batch["most_other_golds"]:
            usable &= ~_among(places, batch["other_golds"])
        usable[:, 0] &= force_gold
        usable[:, 1:] &= ~((places[:, 1:] == places[:, :1]) & force_gold[:, None])
        return usable

    def _current(
        self, places: Int[Tensor, "B P"], *, keep: bool = True
    ) -> Float[Tensor, "B P dim"]:
        """Return the vectors that the current encoder gives, without gradient and dropout."""
        distinct, inverse = places.clamp(min=0).unique(return_inverse=True)
        plan = self._plan(distinct, len(places))
        with evaluating(self.retriever):
            vectors = gradient_cache.without_gradient(plan)
        if keep:
            self.count_work(FORWARD, self.weights, float(plan.lengths.sum()))
        if keep and self.write_back:
            self.index.write(distinct, vectors)
        return vectors[inverse]

    def _with_gradient(self, places: Int[Tensor, "B P"]) -> Float[Tensor, "B P dim"]:
        """Return the vectors with gradient, at the memory of one batch of them."""
        distinct, inverse = places.clamp(min=0).unique(return_inverse=True)
        plan = self._plan(distinct, len(places))
        return gradient_cache.recomputed(plan, list(self.retriever.parameters()))[inverse]

    def _plan(self, places: Int[Tensor, "distinct"], size: int) -> gradient_cache.Plan:
        rows, size = places.cpu().numpy(), min(size, self.chunk or size)

        def embed(some: np.ndarray) -> Tensor:
            features = to_device(self.base.features(rows[some]), self.retriever.device)
            return self.retriever.embed(features, "passage")

        lengths = self.base.tokens.lengths[rows]
        return gradient_cache.Plan(
            embed, lengths, size, _norms, self.skip_gradient_below, model=self.retriever
        )

    def index_work(self) -> float:
        """Return the arithmetic of this rank since the index was encoded."""
        return self.index.work

    def index_forecast(self, work: float, updates: int) -> IndexForecast:
        """Return what the index costs in updates of so much arithmetic each, over all ranks.

        Scaled by tokens from what the index holds, which in a dry run may be a sample.
        """
        assert self.index.vectors is not None
        lengths, held = self.base.tokens.lengths, self.index.places
        refreshes = 0
        if self.retriever.trains_passages and self.refresh_budget and work:
            cost = FORWARD * self.weights * float(lengths.sum())
            refreshes = (updates - 1) // math.ceil(cost / (self.refresh_budget * work))
        return IndexForecast(
            passages=len(self.base),
            tokens=int(lengths.sum()),
            measured=len(held),
            seconds=self.index.seconds * float(lengths.sum() / lengths[held].sum()),
            refreshes=refreshes,
            size=int(self.index.vectors.nbytes * len(self.base) / len(held)),
        )

    def _pairs(self, queries: Tensor, gold_vectors: Tensor, batch: Batch) -> Pairs:
        vectors = gold_vectors.to(queries.dtype)
        return Pairs(queries, vectors, batch["false_negatives"], known=batch["gold"] >= 0)


def overlap(stale: Int[Tensor, "B K"], live: Int[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Return the fraction of the live passages that are among the stale ones, too."""
    same = (live[:, :, None] == stale[:, None, :]).any(2)
    return same.float().mean()


def _among(places: Int[Tensor, "B P"], others: Sequence[np.ndarray]) -> Bool[Tensor, "B P"]:
    """Mark the places that are among those of their row."""
    marked = torch.zeros_like(places, dtype=torch.bool)
    for row, some in enumerate(others):
        if len(some):
            marked[row] = torch.isin(places[row], torch.from_numpy(some).to(places.device))
    return marked


def _norms(gradient: Float[Tensor, "rows dim"], _: Tensor) -> Float[Tensor, "rows"]:
    return gradient.square().sum(1).sqrt()


def weights_per_token(model: torch.nn.Module) -> float:
    """Return how many weights a token passes through: all but the embedding tables."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    return float(sum(p.numel() for p in model.parameters() if id(p) not in tables))
