"""Return rank and world size, join and leave the process group, and split work over ranks.

torch is imported only where a process group is used, so that `dalm --help` stays fast.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def rank() -> int:
    """Return the rank in the process group, else torchrun's `RANK`, else 0."""
    group = _group()
    return int(os.environ.get("RANK", "0") if group is None else group.get_rank())


def world_size() -> int:
    """Return the size of the process group, else torchrun's `WORLD_SIZE`, else 1."""
    group = _group()
    return int(os.environ.get("WORLD_SIZE", "1") if group is None else group.get_world_size())


def is_main() -> bool:
    """Return whether this is rank 0, which writes files and logs."""
    return rank() == 0


def has_group() -> bool:
    """Return whether the process group is initialised."""
    return _group() is not None


def join() -> None:
    """Initialise the process group if torchrun started several processes."""
    if world_size() > 1 and not has_group():
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("gloo")  # texts and vectors are exchanged on the CPU


def leave() -> None:
    """Destroy the process group, if there is one.

    It has threads of its own; one that is still alive when the interpreter exits aborts the
    process, and torchrun takes that for a failure and stops the others.
    """
    group = _group()
    if group is not None:
        group.destroy_process_group()


def from_main(value: T) -> T:
    """Return the value that rank 0 has."""
    group = _group()
    if group is None:
        return value
    values = [value]
    group.broadcast_object_list(values, src=0)
    return values[0]


def share(items: Sequence[T]) -> Sequence[T]:
    """Return this rank's items: every W-th, so that each rank has long and short ones."""
    return items[rank() :: world_size()] if has_group() else items


def position() -> tuple[int, int]:
    """Return which share is this rank's, and of how many; without a process group 0 of 1."""
    return (rank(), world_size()) if has_group() else (0, 1)


def gather_shares(own: Sequence[T]) -> list[T]:
    """Return the items of all ranks in the order that they had before `share`."""
    group = _group()
    if group is None or world_size() == 1:
        return list(own)
    shares: list[Any] = [None] * world_size()
    group.all_gather_object(shares, list(own))
    items: list[Any] = [None] * sum(map(len, shares))
    for each_rank, part in enumerate(shares):
        items[each_rank :: world_size()] = part
    return items


def _group() -> Any | None:
    """Return torch.distributed if the process group is initialised."""
    dist = sys.modules.get("torch.distributed")
    initialised = dist is not None and dist.is_available() and dist.is_initialized()
    return dist if initialised else None
