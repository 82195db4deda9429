"""Know the processes that torchrun started: rank, world size, and a fair share of the work.

torch is imported only where a process group is used, so that `dalm --help` stays quick.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def rank() -> int:
    """Return this process's rank: of the process group, else as torchrun said; 0 without either."""
    group = _group()
    return int(os.environ.get("RANK", "0") if group is None else group.get_rank())


def world_size() -> int:
    """Return the number of processes: of the group, else as torchrun said; 1 without either."""
    group = _group()
    return int(os.environ.get("WORLD_SIZE", "1") if group is None else group.get_world_size())


def is_main() -> bool:
    """Tell whether this process is the one that writes and speaks."""
    return rank() == 0


def has_group() -> bool:
    """Tell whether the processes can talk to each other yet."""
    return _group() is not None


def join() -> None:
    """Meet the other processes that torchrun started, if there are any."""
    if world_size() > 1 and not has_group():
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("gloo")  # texts and vectors travel, both on the CPU


def leave() -> None:
    """Leave the group, if there is one.

    It has threads of its own; one that is still alive when the interpreter ends aborts the process,
    and torchrun takes that for a failure and stops the others.
    """
    group = _group()
    if group is not None:
        group.destroy_process_group()


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share: every W-th, so that each has long and short ones."""
    return items[rank() :: world_size()] if has_group() else items


def gather_shares(mine: Sequence[T]) -> list[T]:
    """Put all processes' shares back together, in the order that they had before `share`."""
    group = _group()
    if group is None or world_size() == 1:
        return list(mine)
    shares: list[Any] = [None] * world_size()
    group.all_gather_object(shares, list(mine))
    whole: list[Any] = [None] * sum(map(len, shares))
    for place, part in enumerate(shares):
        whole[place :: world_size()] = part
    return whole


def _group() -> Any | None:
    """Return torch.distributed if there is a process group."""
    dist = sys.modules.get("torch.distributed")
    there = dist is not None and dist.is_available() and dist.is_initialized()
    return dist if there else None
