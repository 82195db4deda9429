"""Score answers with a generator, also of many candidate prompts at the memory of a few."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalm.models.batching import by_length, pad
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.prompts import Prompt
from dalm.training import gradient_cache
from dalm.training.data.batches import Pieces

SCORED_TOKENS, SCORED_PROMPTS = 8_192, 128
"""Tokens, padding included, and prompts of a batch that is scored without gradient."""


def candidate_prompts(
    generator: Generator, pieces: Pieces, passages: Sequence[Sequence[Sequence[int]]]
) -> list[Prompt]:
    """Return one prompt for each list of passages; every query has equally many lists."""
    frame, longest = generator.frame, generator.max_length
    each = len(passages) // len(pieces.queries)
    return [
        frame.join(some, pieces.queries[i // each], pieces.answers[i // each], longest)
        for i, some in enumerate(passages)
    ]


def score_answers(generator: Generator, prompts: Sequence[Prompt]) -> Float[Tensor, "rows T"]:
    """Return the log-probabilities of each prompt's answer tokens, 0 after an answer's end."""
    ids, mask = pad([prompt.tokens for prompt in prompts], generator.pad_token)
    starts = torch.tensor([prompt.answer_start for prompt in prompts])
    columns = torch.arange(ids.shape[1])
    scored = mask.bool() & (columns >= starts[:, None].clamp(min=1))
    device = generator.device
    flat = generator.token_log_probs(ids.to(device), mask.to(device), scored.to(device))
    return unflatten(flat, scored.sum(1))


def unflatten(flat: Float[Tensor, "n"], lengths: Tensor) -> Float[Tensor, "rows T"]:
    """Split values that follow each other row by row into rows, padded with 0 on the right."""
    table = flat.new_zeros(len(lengths), int(lengths.max()))
    return table.masked_scatter(answer_mask(lengths).to(flat.device), flat)


def answer_mask(lengths: Tensor) -> Bool[Tensor, "rows T"]:
    """Return where the answers' tokens are in rows padded on the right."""
    return torch.arange(int(lengths.max())) < lengths[:, None]


def score_candidates(
    generator: Generator, prompts: Sequence[Prompt], candidates: int, skip_below: float = 0.0
) -> Float[Tensor, "B K T"]:
    """Return ℓ of B·K prompts, K for each query in turn, with gradient at the memory of B prompts.

    −∂loss/∂ℓ_bkt of a marginal likelihood is r_bkt, the responsibility of passage k for token t,
    times the answer's weight; `skip_below` leaves out the prompts with the least of it (see
    `gradient_cache.Plan`). A frozen generator scores without dropout.
    """
    if not any(p.requires_grad for p in generator.parameters()):
        return score_no_grad(generator, prompts, candidates)
    if candidates == 1 and torch.is_grad_enabled():
        return score_answers(generator, prompts)[:, None, :]
    plan = _plan(generator, prompts, candidates, skip_below)
    table = gradient_cache.recomputed(plan, list(generator.parameters()))
    return table.view(-1, candidates, table.shape[1])


def score_no_grad(
    generator: Generator, prompts: Sequence[Prompt], candidates: int = 1
) -> Float[Tensor, "B K T"]:
    """Return ℓ of B·K prompts without gradient and without dropout."""
    with evaluating(generator):
        table = gradient_cache.without_gradient(_plan(generator, prompts, candidates))
    return table.view(-1, candidates, table.shape[1])


def mean_log_probs(
    generator: Generator, prompts: Sequence[Prompt]
) -> Iterator[tuple[np.ndarray, list[float]]]:
    """Yield batches of prompts of similar length: their places, and ℓ̄ = (1/T) Σ_t ℓ_t of each.

    In nats per token, over the answer's tokens and its EOS; without gradient and dropout.
    """
    lengths = np.array([prompt.length for prompt in prompts], np.int64)
    for rows in by_length(lengths, SCORED_TOKENS, SCORED_PROMPTS):
        some = [prompts[row] for row in rows]
        with generator.placement.autocast():
            totals = score_no_grad(generator, some)[:, 0].sum(1)
        tokens = [prompt.length - prompt.answer_start for prompt in some]
        yield rows, (totals.double() / torch.tensor(tokens)).tolist()


def _plan(
    generator: Generator, prompts: Sequence[Prompt], candidates: int, skip_below: float = 0.0
) -> gradient_cache.Plan:
    def score(rows: np.ndarray) -> Tensor:
        return score_answers(generator, [prompts[row] for row in rows])

    def gradient_size(gradient: Tensor, log_probs: Tensor) -> Tensor:
        # At the logits a token's gradient is that of ℓ times 1 − p: an easy token has none.
        return (gradient.abs() * -torch.expm1(log_probs)).sum(1)

    lengths = np.array([prompt.length for prompt in prompts])
    size = len(prompts) // candidates
    return gradient_cache.Plan(score, lengths, size, gradient_size, skip_below)
