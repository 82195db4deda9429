"""Draw the zeros of dropout alone on a CPU, instead of a number for every element.

Between two zeros of a dropout with probability p lie as many elements as a geometric distribution
says, so that n elements need about p n numbers instead of n, and what is kept for the backward pass
is the zeros' positions instead of a mask of n floats. LoRA drops elements before every adapter: a
tenth of the step of a small model.
"""

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

MOST = 0.25
"""With a larger probability torch's own dropout is as fast."""
SPARE = 6
"""Deviations by which more zeros are drawn than are expected, so that once is enough."""


class Dropout(torch.nn.Dropout):
    """Return x m / (1 - p), where each element of m is 0 with probability p and 1 otherwise.

    The same distribution as torch's, drawn from the same generator, in other numbers.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the elements that are kept, scaled; all of them in evaluation mode."""
        if not self.training or not 0 < self.p <= MOST or input.device.type != "cpu":
            return super().forward(input)
        dropped: torch.Tensor = _Dropped.apply(input, self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Dropped(torch.autograd.Function):
    """Drop elements, and the same ones of the gradient."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, p: float) -> torch.Tensor:
        zeros = positions(values.numel(), p)
        ctx.p = p
        ctx.save_for_backward(zeros)
        return _without(values, p, zeros)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _without(gradient, ctx.p, *ctx.saved_tensors), None


def _without(values: torch.Tensor, p: float, zeros: torch.Tensor) -> torch.Tensor:
    scaled = values.contiguous() * (1 / (1 - p))
    scaled.view(-1).index_fill_(0, zeros, 0.0)
    return scaled


def positions(count: int, p: float) -> torch.Tensor:
    """Return the sorted positions, int64, of the elements of `count` that are dropped."""
    found: list[torch.Tensor] = []
    end = 0
    while end <= count:
        expected = (count - end) * p
        more = math.ceil(expected + SPARE * math.sqrt(expected)) + 1
        gaps = torch.empty(more, dtype=torch.int64).geometric_(p)
        found.append(gaps.cumsum(0).add_(end))
        end = int(found[-1][-1])
    at = torch.cat(found) if len(found) > 1 else found[0]
    return at[: int(torch.searchsorted(at, count, right=True))].sub_(1)


def draw_zeros_alone(model: torch.nn.Module) -> None:
    """Replace torch's dropout in all of a model's modules, which is about to be trained."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Dropout and not child.inplace:
                setattr(module, name, Dropout(child.p))
