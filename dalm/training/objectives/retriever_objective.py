"""Train a retriever by a loss over the vectors of a batch: in chunks, and at several sizes."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalm.config import RetrieverOnly
from dalm.errors import UserError
from dalm.models.embedding_model import pools_side_by_side
from dalm.models.generator import Generator
from dalm.models.retriever import ENCODED, Retriever
from dalm.models.retriever_sides import Kind
from dalm.training import gradient_cache
from dalm.training.data.batches import Batch, Rows
from dalm.training.objectives.objective import Loss, Objective

KINDS: tuple[Kind, Kind] = ("query", "passage")
TOKENS = ("input_ids", "attention_mask")
"""What a batch's features hold for each text; the rest is for all of them."""


class RetrieverObjective(Objective):
    """Train a retriever by a loss over the vectors of a batch's queries and passages.

    With `chunk` the vectors are computed so many texts at a time (`embed`). With `dims`
    (Matryoshka) the loss is the mean over vectors cut to each of these sizes and whole ones,
    L = Σ_d loss(cut_d(queries), cut_d(passages)) / (number of sizes), and the vectors are computed
    once. A subclass computes the loss of one size.

    Source: Kusupati et al. 2022 (arXiv:2205.13147), eq. 1, with equal weights.

    Raises:
        UserError: `dims` that the retriever's vectors can't be cut to.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"passage"})
    command: ClassVar[str] = RetrieverOnly.command

    def __init__(
        self, retriever: Retriever, *, chunk: int | None = None, dims: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.retriever, self.chunk, self.dims = retriever, chunk, tuple(dims or ())
        check_dims(retriever, self.dims)
        retriever.matryoshka_dims = self.dims

    @classmethod
    @abstractmethod
    def from_config(cls, config: RetrieverOnly, rows: Rows) -> Self:
        """Return the objective that the options ask for, over the retriever of `rows`."""

    @abstractmethod
    def loss(
        self, queries: Float[Tensor, "B dim"], passages: Float[Tensor, "own dim"], batch: Batch
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of a batch with these vectors, and what is logged of it."""

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever."""
        return {"retriever": self.retriever}

    def fewest_rows(self) -> int:
        """Return as many rows as fill a chunk."""
        return max(2, self.chunk or 0)

    def forward(self, batch: Batch) -> Loss:
        """Return the loss, averaged over the sizes; the parts are those of whole vectors."""
        queries, passages = embed(self.retriever, batch, self.chunk)
        total, parts = self.loss(queries, passages, batch)
        losses, cut = [total], self.retriever.cut
        for dim in self.dims:
            losses.append(self.loss(cut(queries, dim), cut(passages, dim), batch)[0])
            parts[f"loss_{dim}"] = losses[-1].detach()
        return Loss(torch.stack(losses).mean(), parts, *token_counts(batch, self.chunk))


def vector_options(settings: Any) -> dict[str, Any]:
    """Return the options of `RetrieverObjective` that a command's settings hold."""
    return {"chunk": settings.contrastive_chunk, "dims": settings.matryoshka_dims}


def check_dims(retriever: Retriever, dims: Sequence[int]) -> None:
    """Refuse sizes that a retriever's vectors can't be cut to.

    Raises:
        UserError: names the size, or what the vectors are made of.
    """
    if dims and any(pools_side_by_side(retriever.model, kind) for kind in KINDS):
        raise UserError(
            f"--matryoshka-dims: the vectors of {retriever.name} are several pooled ones side by "
            "side, and cut ones would hold the first of them alone; leave it out"
        )
    for place, dim in enumerate(dims):
        if not 0 < dim < retriever.dim:
            raise UserError(
                f"--matryoshka-dims {dim}: the vectors of {retriever.name} have {retriever.dim} "
                f"dimensions, which are trained anyway; name sizes from 1 to {retriever.dim - 1}"
            )
        if dim in dims[:place]:
            raise UserError(f"--matryoshka-dims {dim} is given twice; name it once")


def embed(
    retriever: Retriever, batch: Batch, chunk: int | None = None
) -> tuple[Float[Tensor, "B dim"], Float[Tensor, "own dim"]]:
    """Return the vectors of a batch's queries and of its passages, with gradient.

    With `chunk`, activations are kept for so many texts at a time: all are embedded without
    gradient, and in the backward pass again with it (`gradient_cache`), with the same dropout.
    """
    queries, passages = (len(batch[kind]["input_ids"]) for kind in KINDS)
    if chunk is None or chunk >= queries + passages:
        query, passage = (retriever.embed(batch[kind], kind) for kind in KINDS)
        return query, passage
    vectors = _in_chunks(retriever, batch, chunk, KINDS)
    return vectors[:queries], vectors[queries:]


def embed_queries(
    retriever: Retriever, batch: Batch, chunk: int | None = None
) -> Float[Tensor, "B dim"]:
    """Return the vectors of a batch's queries, with gradient, as `embed` does."""
    if chunk is None or chunk >= len(batch["query"]["input_ids"]):
        return retriever.embed(batch["query"], "query")
    return _in_chunks(retriever, batch, chunk, ("query",))


def _in_chunks(retriever: Retriever, batch: Batch, chunk: int, of: Sequence[Kind]) -> Tensor:
    plan = _plan(retriever, batch, chunk, of)
    return gradient_cache.recomputed(plan, list(retriever.parameters()))


def _plan(
    retriever: Retriever, batch: Batch, chunk: int, of: Sequence[Kind]
) -> gradient_cache.Plan:
    """Return how queries, and after them passages, are embedded; those of one kind at a time."""
    lengths = [_lengths(batch, kind) for kind in of]
    queries = len(lengths[0])
    kinds = np.repeat(np.arange(len(of)), [len(each) for each in lengths])
    no_gradient = torch.from_numpy((kinds == 1) & (not retriever.trains_passages))

    def run(rows: np.ndarray) -> Tensor:
        kind = KINDS[kinds[rows[0]]]
        places = torch.from_numpy(rows - queries * kinds[rows])
        width = plan.lengths[rows].max()  # without columns that only pad these rows
        some = {name: batch[kind][name][places, :width] for name in TOKENS}
        if ENCODED in batch[kind]:
            some[ENCODED] = batch[kind][ENCODED][places]
        return retriever.embed(batch[kind] | some, kind)

    def norms(gradient: Tensor, _values: Tensor) -> Tensor:
        sizes: Tensor = gradient.norm(dim=1)
        return sizes.masked_fill(no_gradient.to(gradient.device), 0.0)

    plan = gradient_cache.Plan(
        run, np.concatenate(lengths), chunk, norms, kinds=kinds, model=retriever
    )
    return plan


def token_counts(batch: Batch, chunk: int | None = None) -> tuple[int, int]:
    """Return the tokens of a batch's texts that are read, without padding and with it."""
    tokens = padded = 0
    for kind in KINDS:
        if ENCODED in batch[kind]:
            continue  # read once, before training
        lengths = _lengths(batch, kind)
        groups = gradient_cache.micro_batches(lengths, chunk or len(lengths))
        tokens += int(lengths.sum())
        padded += sum(len(group) * int(lengths[group].max()) for group in groups)
    return tokens, padded


def _lengths(batch: Batch, kind: Kind) -> Int[np.ndarray, "texts"]:
    lengths: np.ndarray = batch[kind]["attention_mask"].sum(1).cpu().numpy()
    return lengths
