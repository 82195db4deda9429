"""Pretrain a generator on packed documents with the causal language-modelling loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from dalm.models.generator import Generator
from dalm.models.packed_attention import Way, find_way, packed_log_probs
from dalm.models.retriever import Retriever
from dalm.training.data.batches import Batch
from dalm.training.data.packing import PackedBatch
from dalm.training.objectives.objective import Loss, Objective

if TYPE_CHECKING:
    from dalm.training.held_out_evaluation import BestWeights


class CausalLM(Objective):
    """Train a generator to write texts: −1/N Σ log p(token | its document's tokens before it).

    N counts the scored tokens of the whole update, over all ranks and accumulated batches, so that
    every token has the same weight wherever it was packed. `best`, if it is set,
    keeps the best weights so far.
    """

    name: ClassVar[str] = "causal_lm"
    label: ClassVar[str] = "causal language modelling on packed documents"
    needs: ClassVar[frozenset[str]] = frozenset({"text"})

    def __init__(self, generator: Generator, way: Way | None = None) -> None:
        super().__init__()
        self.generator = generator
        self.best: BestWeights | None = None
        self.way = find_way(generator) if way is None else way

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the generator."""
        return {"generator": self.generator}

    def rows(self, batch: Batch) -> int:
        """Return the number of packed rows."""
        return len(cast(PackedBatch, batch)["tokens"])

    def weighted_tokens(self, batch: Batch) -> float:
        """Return the number of scored tokens."""
        return cast(PackedBatch, batch)["count"]

    def forward(self, batch: Batch) -> Loss:
        """Return the mean over scored tokens of their negative log-likelihood."""
        packed = cast(PackedBatch, batch)
        log_probs = packed_log_probs(
            self.generator, packed["tokens"], packed["positions"], packed["scored"], self.way
        )
        tokens = packed.get("weighted_tokens") or packed["count"]
        return Loss(-log_probs.sum() / tokens, {}, packed["read"], packed["tokens"].numel())

    def observe(self) -> dict[str, float]:
        """Return the figures of the held-out texts, if they were measured at this update."""
        return {} if self.best is None else self.best.observe()

    def save_state(self, folder: Path, rank: int) -> None:
        """Write the figures so far and the best weights."""
        if rank == 0 and self.best is not None:
            self.best.save(folder)

    def load_state(self, folder: Path, rank: int) -> None:  # noqa: ARG002
        """Load what `save_state` wrote."""
        if self.best is not None:
            self.best.load(folder)
