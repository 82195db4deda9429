"""Train retriever and generator by the marginal likelihood of the answer (RAG, EMDR²)."""

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from dalm.training import losses
from dalm.training.objectives.joint import RagObjective, Scored


class RagToken(RagObjective):
    """Train both with −Σ_t log Σ_k p_k exp(ℓ_kt), averaged over answer tokens.

    Source: Lewis et al. 2020 (arXiv:2005.11401), RAG-Token.
    """

    name: ClassVar[str] = "rag_token"
    label: ClassVar[str] = "marginal likelihood, token by token"
    has_reader_loss: ClassVar[bool] = False

    def joint_loss(self, scored: Scored) -> tuple[Float[Tensor, ""], Float[Tensor, "B K"]]:
        """Return the marginal loss and the logits of the posterior over the candidates."""
        return marginal_loss(losses.rag_token, scored)


class RagSequence(RagObjective):
    """Train both with −log Σ_k p_k exp(Σ_t ℓ_kt), averaged over answer tokens.

    Source: Lewis et al. 2020 (arXiv:2005.11401), RAG-Sequence.
    """

    name: ClassVar[str] = "rag_sequence"
    label: ClassVar[str] = "marginal likelihood of the whole answer"
    has_reader_loss: ClassVar[bool] = False

    def joint_loss(self, scored: Scored) -> tuple[Float[Tensor, ""], Float[Tensor, "B K"]]:
        """Return the marginal loss and the logits of the posterior over the candidates."""
        return marginal_loss(losses.rag_sequence, scored)


class Emdr2(RagToken):
    """Train the retriever with `rag_token` over detached ℓ, and the generator with a reader loss.

    Source: Sachan et al. 2021 (arXiv:2106.05346).
    """

    name: ClassVar[str] = "emdr2"
    label: ClassVar[str] = "marginal likelihood for the retriever, reader loss for the generator"
    has_reader_loss: ClassVar[bool] = True


def marginal_loss(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], scored: Scored
) -> tuple[Float[Tensor, ""], Float[Tensor, "B K"]]:
    """Return a marginal loss per answer token, and the logits of the posterior, log p + L."""
    posterior = (scored.log_prior + scored.log_probs.sum(-1)).detach()
    per_query = loss(scored.log_prior, scored.log_probs, scored.mask)
    return (scored.weights * per_query).sum() / scored.tokens, posterior
