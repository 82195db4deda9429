"""Gather tensors of all ranks, with gradient or of unequal length, and sum numbers."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dalm.distributed import has_group, rank, world_size


class _Gather(torch.autograd.Function):
    """Gather all ranks' rows; backward, sum the gradients of this rank's rows over ranks.

    With DDP's mean over ranks this is exactly the gradient of the mean of the ranks' losses.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rank, ctx.rows = rank(), rows.shape[0]
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rank * ctx.rows : (ctx.rank + 1) * ctx.rows]


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, rank 0 first, with gradient; every rank must have as many."""
    if not _is_distributed():
        return rows
    return _Gather.apply(rows)  # type: ignore[no-any-return,no-untyped-call]


def gather_counted(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the rows of all ranks, rank 0 first, with gradient; rank r has `counts[r]` of them."""
    if not _is_distributed() or not any(counts):
        return rows
    padding = rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])
    parts = gather(torch.cat([rows, padding])).split(max(counts))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@torch.no_grad()
def gather_ragged(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, rank 0 first, without gradient; their numbers may differ."""
    if not _is_distributed():
        return rows
    counts = gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    return gather_counted(rows, counts)


def smallest(number: int, device: torch.device) -> int:
    """Return the smallest of the ranks' numbers."""
    if not _is_distributed():
        return number
    least = torch.tensor(number, device=device)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    return int(least)


def total(number: float, device: torch.device) -> float:
    """Return the sum of a number over ranks."""
    if not _is_distributed():
        return number
    summed = torch.tensor(number, dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return float(summed)


def is_sharded(model: nn.Module | None) -> bool:
    """Return whether a model's weights are sharded over the ranks (see `training.sharding`)."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if model is None or fsdp is None:
        return False
    return any(isinstance(module, fsdp.FSDPModule) for module in model.modules())


def missing_passes(model: Any, passes: int) -> int:
    """Return how many more passes through a model than `passes` of its own a rank has to run.

    Sharded weights are gathered by all ranks together, in each pass: one that runs fewer than
    another would leave it waiting for ever. To be called before the first of them; 0 if the weights
    aren't sharded.
    """
    if not is_sharded(model):
        return 0
    return -smallest(-passes, model.placement.device) - passes


def _is_distributed() -> bool:
    """Return whether there are other processes in the group."""
    return has_group() and world_size() > 1
