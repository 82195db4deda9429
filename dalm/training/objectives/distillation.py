"""Train a retriever on the generator's scores of its candidates, and the generator as a reader."""

from abc import abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dalm.collectives import gather
from dalm.training import losses
from dalm.training.objectives.joint import RagObjective, Scored


class Distillation(RagObjective):
    """Train the retriever with KL(target ‖ p), averaged over queries, and a reader loss.

    The target is a softmax over the generator's scores of the candidates, without gradient; with
    `teacher_mix` M it is (1 − M) of that and M of a table's teacher's, over those that it has
    scored.
    """

    has_reader_loss: ClassVar[bool] = True

    @abstractmethod
    def scores(self, mean_log_probs: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Return the target's logits, before the temperature, from ℓ̄."""

    def joint_loss(self, scored: Scored) -> tuple[Float[Tensor, ""], Float[Tensor, "B K"]]:
        """Return the weighted mean of the KL divergences, and the target's logits."""
        target = self._over_temperature(
            self.scores(losses.mean_log_probs(scored.log_probs, scored.mask))
        )
        if scored.teacher is not None:
            target = losses.mixed_target(target, scored.teacher, self.teacher_mix)
        divergence = losses.distil(scored.log_prior, target)
        return (scored.weights * divergence).sum() / scored.weights.sum(), target

    def _over_temperature(self, logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Divide by the target's temperature; `auto` aims at K/3 effective passages."""
        temperature = self.target_temperature
        if temperature == "auto":
            # Batches with equal passages have fewer candidates; ranks must gather equal shapes.
            missing = self.source.num_candidates - logits.shape[1]
            everyone = gather(F.pad(logits, (0, missing), value=float("-inf")))
            third = max(1.0, int(everyone.isfinite().any(0).sum()) / 3)
            temperature = losses.temperature_for(everyone, third)
        return logits / temperature


class PerplexityDistillation(Distillation):
    """Distil softmax(ℓ̄/τ): the perplexity of the answer given each candidate.

    Source: Izacard et al. 2022 (arXiv:2208.03299), Atlas.
    """

    name: ClassVar[str] = "pdist"
    label: ClassVar[str] = "perplexity distillation (Atlas)"

    def scores(self, mean_log_probs: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Return ℓ̄."""
        return mean_log_probs


class LanguageModelSupervision(Distillation):
    """Distil softmax(exp(ℓ̄)/τ): the likelihood of the answer given each candidate.

    Source: Shi et al. 2023 (arXiv:2301.12652), REPLUG LSR.
    """

    name: ClassVar[str] = "lsr"
    label: ClassVar[str] = "likelihood distillation (REPLUG LSR)"

    def scores(self, mean_log_probs: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Return exp(ℓ̄)."""
        return mean_log_probs.exp()
