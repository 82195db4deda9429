"""Values of many rows with gradient, exactly, at the memory of a few rows.

A loss over candidates needs the values of all of them at once, and keeping every row's activations
for the backward pass costs as many times the memory of one batch. But ∂loss/∂values is known once
the values are, and most rows have little of it. So: compute everything without gradient; when the
loss sends its gradient back, run each row that matters once more, in micro-batches, against its
part of it. The same gradient, one more forward pass of the rows that matter.

Source: gradient caching, Gao et al. 2021 (arXiv:2101.06983), here with the light rows left out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dalm.models.batching import by_length

NEGLIGIBLE = 0.01
"""The lightest rows, which together hold at most this share of the gradient, are left out."""

Run = Callable[[np.ndarray], Float[Tensor, "rows width"]]


class Plan(NamedTuple):
    """How to compute rows, and in what groups."""

    first: Run
    """Without gradient."""
    again: Run
    """With gradient."""
    lengths: np.ndarray
    """Tokens of each row."""
    size: int
    """Rows of a micro-batch; longer rows, fewer of them."""
    weigh: Callable[[Float[Tensor, "rows width"], Float[Tensor, "rows width"]], Tensor]
    """From gradient and values, how much of the gradient each row holds."""

    def groups(self, rows: np.ndarray) -> list[np.ndarray]:
        """Group some of the rows by length."""
        lengths = self.lengths[rows]
        return [rows[group] for group in micro_batches(lengths, self.size)]


def micro_batches(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Group rows of similar length: at most `size` rows, and the tokens of `size` longest rows."""
    return list(by_length(lengths, size * int(lengths.max(initial=1)), size))


def without_gradient(plan: Plan) -> Float[Tensor, "rows width"]:
    """Return the values of all rows, padded with 0 on the right."""
    with torch.no_grad():
        parts = [(rows, plan.first(rows)) for rows in plan.groups(np.arange(len(plan.lengths)))]
    table = parts[0][1].new_zeros(len(plan.lengths), max(part.shape[1] for _, part in parts))
    for rows, part in parts:
        table[torch.from_numpy(rows), : part.shape[1]] = part
    return table


def heavy(sizes: Float[Tensor, "rows"]) -> np.ndarray:
    """Return the rows that are left when the lightest, up to `NEGLIGIBLE` of the sum, are not."""
    ordered, order = sizes.double().cpu().sort()
    kept = ordered.cumsum(0) > NEGLIGIBLE * ordered.sum()
    rows: np.ndarray = order[kept].sort().values.numpy()
    return rows


def recomputed(plan: Plan, parameters: Sequence[Tensor]) -> Float[Tensor, "rows width"]:
    """Return the values of all rows, with gradient to `parameters` at the memory of `plan.size`.

    The values are those of `plan.first`: without dropout, if it has none; the gradient is taken
    through `plan.again`.
    """
    trained = [p for p in parameters if p.requires_grad]
    if not trained or not torch.is_grad_enabled():
        return without_gradient(plan)
    return _Recomputed.apply(plan, *trained)  # type: ignore[no-any-return,no-untyped-call]


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *parameters: Tensor) -> Tensor:
        ctx.plan, ctx.parameters = plan, parameters
        device = parameters[0].device.type
        ctx.autocast = (
            device,
            torch.get_autocast_dtype(device),
            torch.is_autocast_enabled(device),
        )
        values = without_gradient(plan)
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        device, dtype, enabled = ctx.autocast
        (values,) = ctx.saved_tensors
        with _summed(ctx.parameters) as sums:
            for rows in plan.groups(heavy(plan.weigh(gradient, values))):
                with torch.enable_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
                    part = plan.again(rows)
                weight = gradient[torch.from_numpy(rows), : part.shape[1]]
                torch.autograd.grad(part, ctx.parameters, weight, allow_unused=True)
        return None, *sums


@contextmanager
def _summed(parameters: Sequence[Tensor]) -> Iterator[list[Tensor | None]]:
    """Add up what each parameter gets of every backward pass within, as soon as it is there.

    So there is one gradient of all weights, and never a second one beside it to be added. It isn't
    `backward`, which would add to `.grad` itself: DDP takes a weight that got something for ready.
    """
    sums: list[Tensor | None] = [None] * len(parameters)

    def take(place: int, new: Tensor) -> Tensor:
        old = sums[place]
        sums[place] = new.clone() if old is None else old.add_(new)  # `new` may be another's, too
        return new.new_zeros(()).expand_as(new)

    hooks = [p.register_hook(partial(take, place)) for place, p in enumerate(parameters)]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
