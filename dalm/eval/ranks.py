"""An evaluation's work shared among the processes that torchrun started.

Every process reads the data and loads the models, works through its share, and has all of the
results in the end; the first one writes them. The figures are those of one process.
"""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

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
