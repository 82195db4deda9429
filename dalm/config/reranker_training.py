"""Define the options of training a reranker."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from cyclopts import Parameter

from dalm.config.options import option, panel
from dalm.config.shared import NegativesColumn, PairColumns
from dalm.config.training import Training


@panel("Objective")
@dataclass(frozen=True, kw_only=True)
class RerankerObjective:
    """Objective of a reranker's training."""

    objective: Literal["binary", "listwise"] | None = None
    """binary: the right passage against hard negatives, each for itself (binary cross-entropy); the
    default for pairs. listwise: the softmax over a question's candidates follows that of a
    teacher's scores (ListNet); the default for a table that `dalm score-candidates` writes. Of
    pairs, the right passage has it all."""
    num_candidates: int = option(8, least=2)
    """Number of passages per question in a batch: the right or the teacher's best one, and others
    that are drawn again in every epoch."""
    target_temperature: float | Literal["auto"] = option("auto", over=0)
    """Temperature of the softmax over a teacher's scores; auto: the teacher's own if the table has
    it, else chosen so that on average a third of the candidates carry the target."""
    max_length: int | None = option(None, least=16)
    """Maximum length of a question with its passage, in tokens; by default what the model takes, at
    most 1024. It is saved with the reranker."""


@dataclass(frozen=True, kw_only=True)
class RerankerTraining(RerankerObjective, NegativesColumn, PairColumns, Training):
    """Options of `dalm train-reranker`."""

    command: ClassVar[str] = "train-reranker"

    per_device_train_batch_size: Annotated[
        int, Parameter(alias="--batch-size", group="Optimisation")
    ] = option(8, least=1)
    """Questions per batch and device, each with its candidates."""
    learning_rate: Annotated[float, Parameter(group="Optimisation")] = option(2e-5, over=0)
    """Peak learning rate."""
