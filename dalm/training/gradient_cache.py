"""Compute values of many rows with gradient at the memory of a few rows (gradient caching).

A loss over candidates needs the values of all of them at once, and keeping every row's activations
for the backward pass costs K times the memory of one batch. But ∂loss/∂values is known once the
values are, and is small for most rows. So all values are computed without gradient first; in the
backward pass each row whose gradient is not negligible is computed again, in micro-batches, and
backpropagated with its part of the gradient. That costs one more forward pass of those rows.

With `NEGLIGIBLE` = 0 the gradient is that of plain autograd; otherwise the rows that are left out
are its error.

Source: Gao et al. 2021 (arXiv:2101.06983), here with the rows of negligible gradient left out.
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
"""Rows are left out, smallest gradient first, up to this fraction of the sum of their gradients'
sizes."""

Run = Callable[[np.ndarray], Float[Tensor, "rows width"]]


class Plan(NamedTuple):
    """How rows are computed, and in which micro-batches."""

    forward: Run
    """Compute values for the loss; called without gradient."""
    recompute: Run
    """Compute values again, with gradient."""
    lengths: np.ndarray
    """Tokens of each row."""
    size: int
    """Rows of a micro-batch at most; of longer rows it has fewer."""
    gradient_size: Callable[[Float[Tensor, "rows width"], Float[Tensor, "rows width"]], Tensor]
    """From gradient and values, the size of each row's gradient."""

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
        parts = [(rows, plan.forward(rows)) for rows in plan.groups(np.arange(len(plan.lengths)))]
    table = parts[0][1].new_zeros(len(plan.lengths), max(part.shape[1] for _, part in parts))
    for rows, part in parts:
        table[torch.from_numpy(rows), : part.shape[1]] = part
    return table


def not_negligible(sizes: Float[Tensor, "rows"]) -> np.ndarray:
    """Return all rows but the smallest, which together are at most `NEGLIGIBLE` of the sum."""
    ordered, order = sizes.double().cpu().sort()
    kept = ordered.cumsum(0) > NEGLIGIBLE * ordered.sum()
    rows: np.ndarray = order[kept].sort().values.numpy()
    return rows


def recomputed(plan: Plan, parameters: Sequence[Tensor]) -> Float[Tensor, "rows width"]:
    """Return the values of all rows, with gradient to `parameters` at the memory of `plan.size`.

    The values are those of `plan.forward`, without dropout if it has none; the gradient is taken
    through `plan.recompute`.
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
        dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.autocast = (device, dtype, enabled)
        values = without_gradient(plan)
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        device, dtype, enabled = ctx.autocast
        (values,) = ctx.saved_tensors
        with _summed(ctx.parameters) as sums:
            for rows in plan.groups(not_negligible(plan.gradient_size(gradient, values))):
                with torch.enable_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
                    part = plan.recompute(rows)
                weight = gradient[torch.from_numpy(rows), : part.shape[1]]
                torch.autograd.grad(part, ctx.parameters, weight, allow_unused=True)
        return None, *sums


@contextmanager
def _summed(parameters: Sequence[Tensor]) -> Iterator[list[Tensor | None]]:
    """Sum each parameter's gradient over the backward passes inside, as soon as it is computed.

    So one gradient of all weights is held, never a second one to be added to it. `backward` isn't
    used, as it would add to `.grad` itself, after which DDP takes a weight for ready.
    """
    sums: list[Tensor | None] = [None] * len(parameters)

    def add(place: int, new: Tensor) -> Tensor:
        old = sums[place]
        # Cloned, as `new` may be shared with another parameter.
        sums[place] = new.clone() if old is None else old.add_(new)
        return new.new_zeros(()).expand_as(new)

    hooks = [p.register_hook(partial(add, place)) for place, p in enumerate(parameters)]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
