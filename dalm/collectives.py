"""Tensors of all ranks: gathered with gradient for the negatives, of any length for an index."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dalm.distributed import has_group, rank, world_size


class _Gather(torch.autograd.Function):
    """All ranks' rows forward; backward, the sum over ranks of the gradient of this rank's rows.

    With DDP's mean over ranks this is the gradient of the mean of the ranks' losses, exactly.
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
    """Return the rows of all ranks, rank 0 first; every rank must hold as many."""
    if not _several():
        return rows
    return _Gather.apply(rows)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def gather_ragged(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, rank 0 first, without gradient; ranks may hold unlike many."""
    if not _several():
        return rows
    counts = gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = gather(padded).chunk(world_size())
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def total(number: float, device: torch.device) -> float:
    """Return the sum of every rank's number."""
    if not _several():
        return number
    summed = torch.tensor(number, dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return float(summed)


def _several() -> bool:
    """Tell whether there are other processes to talk to."""
    return has_group() and world_size() > 1
