"""Define what an objective is, and register the objectives by name.

An objective turns a batch into a loss; everything that has a gradient happens inside its `forward`,
so that DDP and autocast see one forward and one trainer trains them all. To add one, write a class
in a file of its own and add a line to `OBJECTIVES`; another package registers it as an entry point
of the group `dalm.objectives`. The `--objective` of a command takes those whose `command` it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from dalm.errors import UserError
from dalm.models.export_check import Model
from dalm.plugins import entry_points_of, load_entry_point
from dalm.training.data.batches import Batch

OBJECTIVES: dict[str, str] = {
    "contrastive": "dalm.training.objectives.contrastive:Contrastive",
    "listwise": "dalm.training.objectives.listwise:Listwise",
    "margin_mse": "dalm.training.objectives.margin_mse:MarginMSE",
    "rag_token": "dalm.training.objectives.rag:RagToken",
    "rag_sequence": "dalm.training.objectives.rag:RagSequence",
    "emdr2": "dalm.training.objectives.rag:Emdr2",
    "pdist": "dalm.training.objectives.distillation:PerplexityDistillation",
    "lsr": "dalm.training.objectives.distillation:LanguageModelSupervision",
    "dalm": "dalm.training.objectives.dalm_loss:DalmObjective",
    "sft": "dalm.training.objectives.sft:SupervisedFineTuning",
    "reranking": "dalm.training.objectives.reranker_objective:Reranking",
    "causal_lm": "dalm.training.objectives.causal_lm:CausalLM",
}
"""Where each objective's class is, by its name: `module:class`."""
GROUP = "dalm.objectives"
"""Group of the entry points of other packages' objectives."""


class Loss(NamedTuple):
    """A batch's loss and what is logged of it."""

    total: Float[Tensor, ""]
    parts: dict[str, Tensor]
    tokens: int
    """Tokens that the models read, without padding and without a second pass."""
    padded_tokens: int
    """The same with padding."""


class IndexForecast(NamedTuple):
    """What an index of the knowledge base costs in a run."""

    passages: int
    tokens: int
    """Of all passages."""
    measured: int
    """Passages that were encoded for this forecast."""
    seconds: float
    """Of encoding all passages once, in one process."""
    refreshes: int
    """How often they are encoded again during training."""
    size: int
    """Bytes of the vectors."""


class Objective(nn.Module, ABC):
    """Hold the models to train and compute their loss on a batch."""

    name: ClassVar[str]
    """Name in the registry, in `--objective` and in the log."""
    label: ClassVar[str]
    """What it is, in a few words."""
    chunk: int | None = None
    """Texts whose activations are kept at a time; None: all of a batch."""
    needs: ClassVar[frozenset[str]]
    """What a training row must have, of passage, answer, text, scores (of candidates) and margins
    (scores of two candidates)."""
    command: ClassVar[str] = ""
    """The command whose `--objective` takes it, by `from_config`; empty: none does."""

    @abstractmethod
    def forward(self, batch: Batch) -> Loss:
        """Return the loss of a batch."""

    def rows(self, batch: Batch) -> int:
        """Return the number of training rows in a batch."""
        return len(batch["query"]["input_ids"])

    @abstractmethod
    def models(self) -> Mapping[str, Model]:
        """Return the models that are trained, by the name of the folder they are written to."""

    def weighted_tokens(self, batch: Batch) -> float:  # noqa: ARG002
        """Return the number of tokens over which this batch's loss is a mean; 0 if over queries.

        The trainer sums it over the batches of an update, so that accumulating small batches gives
        the mean over the tokens of all of them.
        """
        return 0

    def begin_update(self, progress: float) -> None:
        """Prepare for an update; `progress` is the fraction of the updates that are done."""

    def frozen_models(self) -> set[str]:
        """Return the names of the models that this update leaves unchanged."""
        return set()

    def fewest_rows(self) -> int:
        """Return how many rows of a batch cost in proportion what the whole batch does."""
        return 2

    def index_work(self) -> float:
        """Return this rank's arithmetic since the index was encoded, as the index counts it."""
        return 0.0

    def index_forecast(self, work: float, updates: int) -> "IndexForecast | None":  # noqa: ARG002
        """Return what the index costs in updates of so much arithmetic each; None: no index."""
        return None

    def observe(self) -> dict[str, float]:
        """Return what a line of the log holds besides the parts of the loss."""
        return {}

    def warnings(self, line: dict[str, float]) -> dict[str, str]:  # noqa: ARG002
        """Return warnings that a line of the log gives reason for, by kind."""
        return {}

    def save_state(self, folder: Path, rank: int) -> None:
        """Write into a checkpoint what a rank knows besides the trained weights."""

    def load_state(self, folder: Path, rank: int) -> None:
        """Load what `save_state` wrote."""

    def export(self, folder: Path) -> None:
        """Write each model into a folder of its own, for use without this package."""
        for name, model in self.models().items():
            model.export(folder / name)


def objective_class(name: str, command: str | None = None) -> Any:
    """Return the class of a registered objective, of a command's if one is named.

    Raises:
        UserError: no objective has this name, here or among the entry points, or it is not for the
            command.
    """
    if name in OBJECTIVES:
        module, _, attribute = OBJECTIVES[name].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        others = entry_points_of(GROUP)
        if name not in others:
            known = ", ".join(sorted({*OBJECTIVES, *others}))
            raise UserError(f"--objective {name}: no such objective; registered are {known}")
        found = load_entry_point(others[name])
    if command is not None and getattr(found, "command", "") != command:
        other = getattr(found, "command", "")
        takes = f"; dalm {other} takes it" if other else ""
        raise UserError(f"--objective {name}: not an objective of dalm {command}{takes}")
    return found
