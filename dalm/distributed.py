"""Tensors of all ranks: with gradient for the negatives, of any length for the index."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """Return (rank, number of ranks); (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    """All ranks' rows forward; backward, the sum over ranks of the gradient of this rank's rows.

    With DDP's mean over ranks this is the gradient of the mean of the ranks' losses, exactly.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rank, ranks = world()
        ctx.rows = rows.shape[0]
        parts = [torch.empty_like(rows) for _ in range(ranks)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rank * ctx.rows : (ctx.rank + 1) * ctx.rows]


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, rank 0 first; every rank must hold as many."""
    if world()[1] == 1:
        return rows
    return _Gather.apply(rows)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def gather_ragged(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, rank 0 first, without gradient; ranks may hold unlike many."""
    ranks = world()[1]
    if ranks == 1:
        return rows
    counts = gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = gather(padded).chunk(ranks)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def total(number: float, device: torch.device) -> float:
    """Return the sum of every rank's number."""
    if world()[1] == 1:
        return number
    summed = torch.tensor(number, dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return float(summed)


# FOLDED ranks.py: An evaluation's work shared among the processes that torchrun started.

T = TypeVar("T")


def join() -> None:
    """Meet the other processes, if there are any."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("gloo")  # texts and vectors travel, both on the CPU


def count() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def first() -> bool:
    """Tell whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def own(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share: every W-th, so that each has long and short ones."""
    return items[dist.get_rank() :: count()] if count() > 1 else items


def gathered(mine: Sequence[T]) -> list[T]:
    """Put all processes' shares back together, in the order that they had before `own`."""
    if count() == 1:
        return list(mine)
    shares: list[Any] = [None] * count()
    dist.all_gather_object(shares, list(mine))
    whole: list[Any] = [None] * sum(map(len, shares))
    for rank, share in enumerate(shares):
        whole[rank :: count()] = share
    return whole
