"""Compute the losses, as pure functions of tensors.

B queries, C passages, K candidates of one query, T answer tokens with the closing EOS. Scores come
from the live encoders; log-probabilities are fp32 (or fp64) and 0 where `mask` is False.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def info_nce(
    by_query: Float[Tensor, "B C"],
    by_passage: Float[Tensor, "B Q"],
    gold: Int[Tensor, "B"],
    own: Int[Tensor, "B"],
) -> Float[Tensor, ""]:
    """Return ½(CE(s) + CE(sᵀ)): each query picks its passage, each gold passage its query.

    `by_query[i, gold[i]]` and `by_passage[i, own[i]]` are the pairs. Hard negatives are further
    columns of `by_query`; a false negative is −inf in both.

    Source: van den Oord et al. 2018 (arXiv:1807.03748), eq. 4; symmetric as in Radford et al. 2021
    (arXiv:2103.00020).
    """
    return (F.cross_entropy(by_query, gold) + F.cross_entropy(by_passage, own)) / 2


def rag_sequence(
    log_prior: Float[Tensor, "B K"],
    log_probs: Float[Tensor, "B K T"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B"]:
    """Return −log Σ_k p_k exp(L_k) with L_k = Σ_t ℓ_kt, in nats per query.

    ∂/∂s = p − softmax(log p + L): the retriever is pulled to the posterior.

    Source: Lewis et al. 2020 (arXiv:2005.11401), RAG-Sequence.
    """
    likelihood = (log_probs * mask[:, None, :]).sum(-1)  # (B, K)
    return -torch.logsumexp(log_prior + likelihood, dim=1)


def rag_token(
    log_prior: Float[Tensor, "B K"],
    log_probs: Float[Tensor, "B K T"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B"]:
    """Return −Σ_t log Σ_k p_k exp(ℓ_kt), in nats per query.

    Source: Lewis et al. 2020 (arXiv:2005.11401), RAG-Token, with the prior of the query alone.
    """
    mixed = torch.logsumexp(log_prior[:, :, None] + log_probs, dim=1)  # (B, T)
    return -(mixed * mask).sum(-1)


def dalm_nll(
    log_gold: Float[Tensor, "B"],
    log_probs: Float[Tensor, "B T"],
    answer_lengths: Int[Tensor, "B"],
) -> Float[Tensor, "B"]:
    """Return −Σ_t ℓ_t − T·log softmax(s)[gold] per query, the second term of the `dalm` objective.

    `log_probs` are those of all the prompt's and the answer's tokens on the gold passage, and T
    counts the answer's. The sum has no product of p and ℓ in it, so no gradient flows from the
    generator to the retriever: it is supervised fine-tuning plus T·CE(s).
    """
    return -(log_probs.sum(-1) + answer_lengths * log_gold)


def distil(
    log_prior: Float[Tensor, "B K"], target_logits: Float[Tensor, "B K"]
) -> Float[Tensor, "B"]:
    """Return KL(softmax(target_logits) ‖ p) in nats per query; the target takes no gradient.

    A candidate at −inf has no part of the target; one at −inf in both is none.

    `pdist` has target logits ℓ̄/τ (Izacard et al. 2022, arXiv:2208.03299, perplexity distillation),
    `lsr` has exp(ℓ̄)/τ (Shi et al. 2023, arXiv:2301.12652, eq. 4 with the mean over tokens), where
    ℓ̄_k is the mean log-probability of the answer's tokens on passage k.
    """
    target = target_logits.detach().log_softmax(1)
    difference = (target - log_prior).masked_fill(target.isneginf(), 0.0)  # 0 · log 0 = 0
    return (target.exp() * difference).sum(1)


def mixed_target(
    logits: Float[Tensor, "B K"], teacher: Float[Tensor, "B K"], mix: float
) -> Float[Tensor, "B K"]:
    """Return the logarithm of (1 − mix) · softmax(logits) + mix · softmax(teacher).

    What is at −inf in `teacher` has no part of its softmax. Where all of a query's candidates are,
    it is softmax(logits) alone.
    """
    own = logits.log_softmax(1)
    has_say = (teacher > float("-inf")).any(1, keepdim=True)
    weights = torch.tensor([1 - mix, mix], dtype=own.dtype, device=own.device).log()
    other = teacher.masked_fill(~has_say, 0.0).log_softmax(1)
    return torch.where(has_say, torch.logaddexp(weights[0] + own, weights[1] + other), own)


def margin_mse(scores: Float[Tensor, "B K"], target: Float[Tensor, "B K"]) -> Float[Tensor, "B"]:
    """Return the mean over k > 0 of ((s_0 − s_k) − (t_0 − t_k))² per query.

    Candidate 0 is the positive; those at −inf in `target` are left out of the mean. A query needs
    a target of two candidates.

    Source: Hofstätter et al. 2020 (arXiv:2010.02666, Margin-MSE), here with several negatives.
    """
    counted = target[:, 1:] > float("-inf")
    margins = (values[:, :1] - values[:, 1:] for values in (scores, target.detach()))
    difference = torch.sub(*margins).masked_fill(~counted, 0.0)
    return difference.square().sum(1) / counted.sum(1)


def mean_log_probs(
    log_probs: Float[Tensor, "B K T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B K"]:
    """Return ℓ̄ = Σ_t ℓ_t / T."""
    return (log_probs * mask[:, None, :]).sum(-1) / mask.sum(-1, keepdim=True)


def temperature_for(logits: Float[Tensor, "N K"], effective: float) -> float:
    """Return τ for which the targets softmax(logits/τ) have `effective` passages on average.

    One τ for all queries: a query whose passages all score alike keeps its flat target, which a τ
    of its own would sharpen into noise. By bisection on log τ; within [1e-4, 1e4].
    """
    if logits.shape[1] < 2:
        return 1.0
    logits = logits.detach().double().cpu()  # one copy, not a sync for each halving
    low, high = math.log(1e-4), math.log(1e4)
    for _ in range(40):
        middle = (low + high) / 2
        found = effective_passages(logits / math.exp(middle)).mean().item()
        low, high = (middle, high) if found < effective else (low, middle)
    return math.exp(high)


def entropy(log_weights: Float[Tensor, "B K"]) -> Float[Tensor, "B"]:
    """Return −Σ_k w_k log w_k of normalised log-weights, in nats."""
    return -(log_weights.exp() * log_weights).nan_to_num().sum(1)


def effective_passages(log_weights: Float[Tensor, "B K"]) -> Float[Tensor, "B"]:
    """Return 1/Σ_k w_k² of the normalised weights: 1: one passage, K: all equal (Kish's ESS)."""
    return 1 / log_weights.softmax(1).square().sum(1)
