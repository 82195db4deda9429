"""Train a retriever on a teacher's distribution over each question's candidates."""

from typing import Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from dalm.config import RetrieverOnly
from dalm.models.retriever import Retriever
from dalm.training import losses
from dalm.training.data.batches import Batch, Rows
from dalm.training.objectives.contrastive import sharpness_of
from dalm.training.objectives.joint import prior_parts
from dalm.training.objectives.scored_candidates import ScoredCandidates, shared_options


class Listwise(ScoredCandidates):
    """Train with KL(softmax(teacher's scores / τ) ‖ softmax(similarity / temperature)).

    Both are over a question's candidates. One that the teacher rules out has no part of the target,
    and stays in the retriever's softmax.

    Sources: Cao et al. 2007 (ListNet, ICML; its cross-entropy is this up to a constant);
    Lin et al. 2020 (arXiv:2010.11386), of a reranker's scores.
    """

    name: ClassVar[str] = "listwise"
    label: ClassVar[str] = "listwise distillation of a teacher's scores (KL divergence)"

    def __init__(
        self, retriever: Retriever, *, temperature: float | None = None, **options: Any
    ) -> None:
        super().__init__(retriever, **options)
        self.temperature = temperature or sharpness_of(retriever).temperature

    @classmethod
    def from_config(cls, config: RetrieverOnly, rows: Rows) -> Self:
        """Return the objective that the options ask for."""
        temperature = config.marginal_temperature
        return cls(rows.retriever, temperature=temperature, **shared_options(config))

    def per_query(
        self, similarity: Float[Tensor, "B K"], batch: Batch
    ) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        """Return the divergence of each query (`losses.distil`)."""
        log_prior = (similarity / self.temperature).log_softmax(1)
        target = batch["scores"] / batch["temperatures"][:, None]
        target = (target - target.amax(1, keepdim=True)).to(similarity)  # large scores lose digits
        parts = {"target_passages": losses.effective_passages(target).mean()}
        return losses.distil(log_prior, target), parts | prior_parts(log_prior)
