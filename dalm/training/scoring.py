"""Score the answers of many candidate prompts, exactly, at the memory of a few.

A marginal loss needs ℓ of all B·K prompts at once, and keeping the activations of all of them for
the backward pass costs K times the memory of one passage. But ∂loss/∂ℓ_bkt is known once ℓ is, and
it is small for most passages: it is r_bkt, the responsibility of passage k for token t. So: score
everything without gradient; when the loss sends its gradient back, run each prompt that matters
once more, in micro-batches, and weight it by that gradient. The same gradient, K forward passes
and as many forward-and-backward passes as there are passages of weight.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.tokens import by_length, pad
from dalm.prompts import Prompt

NEGLIGIBLE = 1e-3
"""Prompts whose share of every token's gradient is under this are not run backwards."""

Run = Callable[[np.ndarray], Tensor]


def score_answers(generator: Generator, prompts: Sequence[Prompt]) -> Float[Tensor, "rows T"]:
    """Return the log-probabilities of each prompt's answer tokens, 0 behind an answer's end."""
    ids, mask = pad([prompt.tokens for prompt in prompts], generator.pad_token)
    starts = torch.tensor([prompt.answer_start for prompt in prompts])
    columns = torch.arange(ids.shape[1])
    scored = mask.bool() & (columns >= starts[:, None].clamp(min=1))
    device = generator.device
    flat = generator.token_log_probs(ids.to(device), mask.to(device), scored.to(device))
    return unflatten(flat, scored.sum(1))


def unflatten(flat: Float[Tensor, "n"], lengths: Tensor) -> Float[Tensor, "rows T"]:
    """Lay values that follow each other row by row into rows, padded with 0 on the right."""
    table = flat.new_zeros(len(lengths), int(lengths.max()))
    return table.masked_scatter(answer_mask(lengths).to(flat.device), flat)


def answer_mask(lengths: Tensor) -> Bool[Tensor, "rows T"]:
    """Return where the answers' tokens are in rows padded on the right."""
    return torch.arange(int(lengths.max())) < lengths[:, None]


def score_candidates(
    generator: Generator, prompts: Sequence[Prompt], candidates: int
) -> Float[Tensor, "B K T"]:
    """Return ℓ of B·K prompts, K of each query side by side, with gradient at little memory.

    The scores are those without dropout; the gradient is taken with it, if there is any.
    """
    if candidates == 1:
        return score_answers(generator, prompts)[:, None, :]
    parameters = [p for p in generator.parameters() if p.requires_grad]

    def run(rows: np.ndarray) -> Tensor:
        return score_answers(generator, [prompts[row] for row in rows])

    def first(rows: np.ndarray) -> Tensor:
        with evaluating(generator):
            return run(rows)

    lengths = np.array([prompt.length for prompt in prompts])
    plan = _Plan(first, run, lengths, candidates)
    return _Candidates.apply(plan, *parameters)  # type: ignore[no-any-return,no-untyped-call]


def micro_batches(lengths: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Group rows of similar length: at most `size` rows, and the tokens of `size` longest rows."""
    return by_length(lengths, size * int(lengths.max(initial=1)), size)


class _Plan:
    """How to score rows, without and with gradient, and of what length they are."""

    def __init__(self, first: Run, again: Run, lengths: np.ndarray, candidates: int) -> None:
        self.first, self.again = first, again
        self.lengths, self.candidates = lengths, candidates


class _Candidates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *parameters: Tensor) -> Tensor:
        ctx.plan, ctx.parameters = plan, parameters
        device = parameters[0].device.type
        ctx.autocast = (
            device,
            torch.get_autocast_dtype(device),
            torch.is_autocast_enabled(device),
        )
        groups = micro_batches(plan.lengths, len(plan.lengths) // plan.candidates)
        scores = [(rows, plan.first(rows)) for rows in groups]
        width = max(part.shape[1] for _, part in scores)
        table = scores[0][1].new_zeros(len(plan.lengths), width)
        for rows, part in scores:
            table[torch.from_numpy(rows), : part.shape[1]] = part
        return table.view(-1, plan.candidates, width)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        sums: list[Tensor | None] = [None] * len(ctx.parameters)
        device, dtype, enabled = ctx.autocast
        flat = gradient.flatten(0, 1)  # (B·K, T)
        weighty = _weighty(gradient)
        for group in micro_batches(plan.lengths[weighty], len(gradient)):
            rows = weighty[group]
            with torch.enable_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
                part = plan.again(rows)
            weight = flat[torch.from_numpy(rows), : part.shape[1]]
            parts = torch.autograd.grad(part, ctx.parameters, weight, allow_unused=True)
            for place, new in enumerate(parts):
                old = sums[place]
                sums[place] = new if old is None else old if new is None else old.add_(new)
        return None, *sums


def _weighty(gradient: Float[Tensor, "B K T"]) -> np.ndarray:
    """Return the rows, of B·K, that carry a share of some token's gradient worth a pass."""
    size = gradient.abs()
    share = size / size.sum(1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
    return (share.amax(-1) >= NEGLIGIBLE).flatten().nonzero().flatten().cpu().numpy()
