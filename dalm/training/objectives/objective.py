"""Objectives: a batch goes in, a loss comes out; whatever has a gradient happens inside.

So DDP, FSDP and autocast see one forward, and one trainer trains them all. This one trains a
retriever alone; `joint` trains it with a generator.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.training.data.batches import Batch
from dalm.training.objectives.contrastive import contrast, embed_pairs


class Loss(NamedTuple):
    """A batch's loss and what is logged of it."""

    total: Float[Tensor, ""]
    parts: dict[str, Tensor]
    tokens: int
    """Tokens that the models read, without padding and without a second pass."""
    slots: int
    """The same with padding."""


class Objective(nn.Module, ABC):
    """Something to train: models and what is asked of them."""

    @abstractmethod
    def forward(self, batch: Batch) -> Loss:
        """Return the loss of a batch."""

    def rows(self, batch: Batch) -> int:
        """Return the number of training rows in a batch."""
        return len(batch["query"]["input_ids"])

    @abstractmethod
    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return what is trained, by the name of the folder that it is written to."""

    def weighed_tokens(self, batch: Batch) -> float:  # noqa: ARG002
        """Return the number of tokens over which this batch's loss is a mean; 0 if over queries.

        The trainer adds it up over the batches of a step, so that accumulating small batches gives
        the mean over the tokens of all of them.
        """
        return 0

    def begin_update(self, progress: float) -> None:
        """Get ready for an update; `progress` is the share of the updates that are done."""

    def resting(self) -> set[str]:
        """Return the models that this update leaves as they are."""
        return set()

    def observe(self) -> dict[str, float]:
        """Return what a line of the log says besides the parts of the loss."""
        return {}

    def warnings(self, line: dict[str, float]) -> dict[str, str]:  # noqa: ARG002
        """Return what a line of the log gives reason to tell the user, by kind."""
        return {}

    def save_state(self, folder: Path, rank: int) -> None:
        """Write what a rank knows besides the trained weights."""

    def load_state(self, folder: Path, rank: int) -> None:
        """Take up what `save_state` wrote."""

    def export(self, folder: Path) -> None:
        """Write what a user takes away: a folder for each model."""
        for name, model in self.models().items():
            model.export(folder / name)


class Contrastive(Objective):
    """Train a retriever on pairs: the other passages of the batch, of all ranks, are negatives."""

    def __init__(self, retriever: Retriever, scale: float) -> None:
        super().__init__()
        self.retriever = retriever
        self.scale = scale

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever."""
        return {"retriever": self.retriever}

    def forward(self, batch: Batch) -> Loss:
        """Return the symmetric InfoNCE of the batch (`losses.info_nce`)."""
        parts = contrast(embed_pairs(self.retriever, batch), self.scale)
        masks = [batch["query"]["attention_mask"], batch["passage"]["attention_mask"]]
        return Loss(
            parts["info_nce"],
            {name: part.detach() for name, part in parts.items()},
            sum(int(mask.sum()) for mask in masks),
            sum(mask.numel() for mask in masks),
        )
