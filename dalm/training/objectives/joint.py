"""Define the base of the objectives that train a retriever and a generator together."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from dalm.config import RagE2E
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.retriever import Retriever
from dalm.training import losses
from dalm.training.data.batches import Batch, Rows, to_device
from dalm.training.gradient_cache import micro_batches
from dalm.training.objectives.candidates import VectorIndex
from dalm.training.objectives.diagnostics import Diagnosis, Reach, collapses, gaps
from dalm.training.objectives.objective import Objective


class JointObjective(Objective):
    """Train a retriever and a generator, and measure both on a few fixed rows for the log."""

    needs: ClassVar[frozenset[str]] = frozenset({"passage", "answer"})
    trains_prompt: ClassVar[bool] = False
    """Whether the prompt's tokens have a loss, too, and not only the answer's."""

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        *,
        scale: float,
        contrastive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.retriever = retriever
        self.generator = generator
        self.scale = scale
        self.contrastive_weight = contrastive_weight
        self.diagnostic_batch: Batch | None = None
        self.reach: Reach | None = None

    @classmethod
    @abstractmethod
    def from_config(cls, config: RagE2E, rows: Rows, index: VectorIndex | None = None) -> Self:
        """Return the objective that the options ask for, over the models and passages of `rows`.

        `index` holds the vectors of the knowledge base; None: candidates come from the batch.
        """

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever and the generator."""
        return {"retriever": self.retriever, "generator": self.generator}

    @abstractmethod
    def diagnose(self, batch: Batch) -> Diagnosis:
        """Return what the questions of a batch find."""

    def candidates(self) -> int:
        """Return how many passages the prior is over."""
        return 1

    def observe(self) -> dict[str, float]:
        """Return, for the diagnostic rows, what a passage is worth and what is found."""
        if self.diagnostic_batch is None:
            return {}
        with evaluating(self), torch.no_grad(), self.retriever.placement.autocast():
            batch = to_device(self.diagnostic_batch, self.retriever.device)
            found = self.diagnose(batch)
            self.reach = found.reach
            return gaps(self.generator, batch["pieces"], found.passages) | found.figures

    def warnings(self, line: dict[str, float]) -> dict[str, str]:
        """Return the collapses that a line of the log shows, with what to try."""
        return collapses(line, self.candidates(), self.reach)


def generator_of(rows: Rows) -> Generator:
    """Return the generator whose tokens the rows hold."""
    assert rows.generator is not None
    return rows.generator


def prior_parts(log_prior: Float[Tensor, "B K"]) -> dict[str, Tensor]:
    """Return what is logged of the prior: its entropy in nats, and 1/Σp²."""
    log_prior = log_prior.detach()
    return {
        "prior_entropy": losses.entropy(log_prior).mean(),
        "prior_passages": losses.effective_passages(log_prior).mean(),
    }


def padded_length(lengths: list[int], batch: Batch) -> int:
    """Return the tokens of prompts in micro-batches, padding included."""
    sizes = torch.tensor(lengths).numpy()
    groups = micro_batches(sizes, len(batch["query"]["input_ids"]))
    return sum(len(group) * int(sizes[group].max()) for group in groups)
