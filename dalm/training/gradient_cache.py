"""Compute values of many rows with gradient at the memory of a few rows (gradient caching).

A loss over candidates needs the values of all of them at once, and keeping every row's activations
for the backward pass costs K times the memory of one batch. But ∂loss/∂values is known once the
values are. So all values are computed without gradient first, in micro-batches; in the backward
pass rows are computed again, in micro-batches, and backpropagated with their part of the gradient.
That costs one more forward pass of those rows. The first `Plan.kept` micro-batches keep their
activations from the first pass and save it: one takes no more memory than the second pass does.

Rows without gradient aren't computed again. With `Plan.skip_below` = 0 nothing else is left out:
the gradient is that of plain autograd up to rounding, with dropout too, since the second pass
draws the first one's masks again. A larger value saves time; above about 1e-6 its error is larger
than that of rounding in fp32 (docs/benchmarks.md).

Source: Gao et al. 2021 (arXiv:2101.06983), here with rows left out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dalm.collectives import is_sharded, missing_passes
from dalm.models.batching import by_length

Run = Callable[[np.ndarray], Float[Tensor, "rows width"]]


class Plan(NamedTuple):
    """How rows are computed, and in which micro-batches."""

    run: Run
    """Compute the values of some rows; called without gradient, and again with it."""
    lengths: np.ndarray
    """Tokens of each row."""
    size: int
    """Rows of a micro-batch at most; of longer rows it has fewer."""
    gradient_size: Callable[[Float[Tensor, "rows width"], Float[Tensor, "rows width"]], Tensor]
    """From gradient and values, the size of each row's gradient."""
    skip_below: float = 0.0
    """Fraction of the sum of those sizes that rows left out of the second pass may hold."""
    kinds: np.ndarray | None = None
    """Kind of each row, such as query or passage; a micro-batch has rows of one. None: one kind."""
    grouping: Callable[[np.ndarray], list[np.ndarray]] | None = None
    """How some of the rows are grouped; None: by kind and length."""
    kept: int = 0
    """Micro-batches, the first ones, whose activations are kept for the backward pass."""
    model: Any = None
    """What computes them: if its weights are sharded, all ranks compute as many micro-batches."""

    def groups(self, rows: np.ndarray) -> list[np.ndarray]:
        """Group some of the rows into micro-batches."""
        if not len(rows):
            return []
        if self.grouping is not None:
            return self.grouping(rows)
        kinds = np.zeros(len(rows)) if self.kinds is None else self.kinds[rows]
        parts = [rows[kinds == kind] for kind in np.unique(kinds)]
        return [
            part[group] for part in parts for group in micro_batches(self.lengths[part], self.size)
        ]


def micro_batches(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Group rows of similar length: at most `size` rows, and the tokens of `size` longest rows."""
    return list(by_length(lengths, size * int(lengths.max(initial=1)), size))


def without_gradient(plan: Plan) -> Float[Tensor, "rows width"]:
    """Return the values of all rows, padded with 0 on the right."""
    return _first_pass(plan._replace(kept=0), torch.device("cpu")).table


def not_negligible(sizes: Float[Tensor, "rows"], skip_below: float) -> np.ndarray:
    """Return all rows but the smallest, which together hold at most `skip_below` of the sum.

    With 0, all that aren't 0. The error of the summed gradient isn't bounded by `skip_below`: rows'
    gradients partly cancel, and those left out are always of the light rows.
    """
    ordered, order = sizes.double().cpu().sort()
    kept = ~(ordered.cumsum(0) <= skip_below * ordered.sum())  # a row that is NaN is kept
    rows: np.ndarray = order[kept].sort().values.numpy()
    return rows


def recomputed(plan: Plan, parameters: Sequence[Tensor]) -> Float[Tensor, "rows width"]:
    """Return the values of all rows, with gradient to `parameters` at the memory of `plan.size`.

    A micro-batch in which `plan.run` drew random numbers is computed again as it was, with the same
    ones, if one of its rows isn't to be left out: masks depend on the shape of what they mask.
    """
    trained = [p for p in parameters if p.requires_grad]
    if not trained or not torch.is_grad_enabled():
        return without_gradient(plan)
    if is_sharded(plan.model):
        # Their gradients are summed over the ranks, and added, in the second pass itself.
        assert plan.model is not None
        device = plan.model.placement.device  # where its shards are may be another
        trained = [torch.zeros((), device=device, requires_grad=True)]
    return _Recomputed.apply(plan, *trained)  # type: ignore[no-any-return,no-untyped-call]


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *parameters: Tensor) -> Tensor:
        ctx.plan, ctx.parameters = plan, parameters
        device = parameters[0].device
        dtype, enabled = (
            torch.get_autocast_dtype(device.type),
            torch.is_autocast_enabled(device.type),
        )
        ctx.autocast = (device.type, dtype, enabled)
        values, ctx.drawn, ctx.kept = _first_pass(plan, device)
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        device, dtype, enabled = ctx.autocast
        (values,) = ctx.saved_tensors
        rows = not_negligible(plan.gradient_size(gradient, values), plan.skip_below)
        sharded = is_sharded(plan.model)

        def run_backwards(group: np.ndarray, part: Tensor, *, counts: bool = True) -> None:
            weight = gradient[torch.from_numpy(group), : part.shape[1]]
            weight = weight if counts else torch.zeros_like(weight)
            if sharded:
                torch.autograd.backward(part, weight)
            else:
                torch.autograd.grad(part, ctx.parameters, weight, allow_unused=True)

        def run_again(group: np.ndarray, state: RandomState | None, *, counts: bool = True) -> None:
            with _drawing_from(state):
                with torch.enable_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
                    part = plan.run(group)
                run_backwards(group, part, counts=counts)

        with _summed(ctx.parameters) as sums:
            while ctx.kept:  # one after another, so that each frees its activations
                group, part = ctx.kept.pop(0)
                if sharded or np.isin(group, rows).any():
                    run_backwards(group, part)
                del part
                rows = np.setdiff1d(rows, group)
            groups = list(_second_pass(plan, rows, ctx.drawn))
            missing = missing_passes(plan.model, len(groups))
            for group, state in groups:
                run_again(group, state)
            for _ in range(missing):
                run_again(_spare(plan), RandomState(values.device), counts=False)
        return None, *sums


# Random numbers


class RandomState:
    """The states of the generators that an operation on a device draws from: CPU and its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.states = [torch.get_rng_state()]
        if device.type != "cpu":
            self.states.append(torch.get_device_module(device).get_rng_state(*self._where))

    @property
    def _where(self) -> tuple[torch.device, ...]:
        return (self.device,) if self.device.type == "cuda" else ()

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, RandomState)
        return all(map(torch.equal, self.states, other.states))

    __hash__ = None  # type: ignore[assignment]

    def restore(self) -> None:
        """Go on drawing from these states."""
        torch.set_rng_state(self.states[0])
        if self.device.type != "cpu":
            module = torch.get_device_module(self.device)
            module.set_rng_state(self.states[1], *self._where)


Group = tuple[np.ndarray, RandomState | None]
"""A micro-batch, and the state from which it draws random numbers; None: it draws none."""


class _FirstPass(NamedTuple):
    table: Float[Tensor, "rows width"]
    """The values of all rows."""
    drawn: list[Group]
    """The micro-batches that aren't kept for which random numbers were drawn."""
    kept: list[tuple[np.ndarray, Tensor]]
    """The micro-batches whose activations are kept, and their values with gradient."""


def _first_pass(plan: Plan, device: torch.device) -> _FirstPass:
    drawn: list[Group] = []
    parts = []
    groups = plan.groups(np.arange(len(plan.lengths)))
    missing = missing_passes(plan.model, len(groups))
    for number, rows in enumerate(groups):
        before = RandomState(device)
        with torch.set_grad_enabled(number < plan.kept):
            parts.append((rows, plan.run(rows)))
        if number >= plan.kept and RandomState(device) != before:
            drawn.append((rows, before))
    for _ in range(missing):
        with torch.no_grad(), _drawing_from(RandomState(parts[0][1].device)):
            plan.run(_spare(plan))
    table = parts[0][1].new_zeros(len(plan.lengths), max(part.shape[1] for _, part in parts))
    for rows, part in parts:
        table[torch.from_numpy(rows), : part.shape[1]] = part.detach()
    return _FirstPass(table, drawn, parts[: plan.kept])


def _spare(plan: Plan) -> np.ndarray:
    """Return a micro-batch for a rank to run that has fewer than another."""
    return plan.groups(np.arange(len(plan.lengths)))[0]


def _second_pass(plan: Plan, rows: np.ndarray, drawn: Sequence[Group]) -> Iterator[Group]:
    """Yield the micro-batches to compute again for some of the rows."""
    for group, state in drawn:
        if np.isin(group, rows).any():
            yield group, state
    replayed = np.concatenate([group for group, _ in drawn]) if drawn else rows[:0]
    for group in plan.groups(np.setdiff1d(rows, replayed)):
        yield group, None


@contextmanager
def _drawing_from(state: RandomState | None) -> Iterator[None]:
    """Draw random numbers from a state in the block, and go on from the present one after it."""
    if state is None:
        yield
        return
    present = RandomState(state.device)
    state.restore()
    try:
        yield
    finally:
        present.restore()


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
