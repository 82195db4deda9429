"""Measure what a training step keeps for its backward pass, and say what takes less memory."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dalm.errors import UserError

CHUNK = 32
"""Texts of a chunk that are proposed where memory is short."""
_NO_MEMORY = "out of memory|can't allocate memory|not enough memory"
"""What torch says where a device, or on several systems the CPU, has none left."""


class KeptBytes:
    """Count the bytes kept for backward passes: now, and at most.

    A storage is counted once, from when a graph first saves it until no graph needs it; those at
    `left_out`, the weights', never. Activations that are checkpointed are computed again within
    another counter of torch's, so of them only the inputs count.
    """

    def __init__(self, left_out: Collection[int] = ()) -> None:
        self.left_out = left_out
        self.holders: Counter[int] = Counter()
        self.now = self.most = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what graphs that are made in the block save."""
        with torch.autograd.graph.saved_tensors_hooks(self._save, lambda saved: saved.tensor):
            yield

    def _save(self, tensor: Tensor) -> "_Saved":
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in self.left_out:
            return _Saved(tensor)
        self.holders[place] += 1
        if self.holders[place] == 1:
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
        return _Saved(tensor, self)

    def release(self, tensor: Tensor) -> None:
        """Note that a graph no longer needs a tensor."""
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        self.holders[place] -= 1
        if not self.holders[place]:
            self.now -= storage.nbytes()


class _Saved:
    """Hold a tensor as long as a graph does."""

    def __init__(self, tensor: Tensor, counter: KeptBytes | None = None) -> None:
        self.tensor, self.counter = tensor, counter

    def __del__(self) -> None:
        if self.counter is not None:
            self.counter.release(self.tensor)


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that is free on a device; None: not known."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    report = Path("/proc/meminfo")
    if device.type != "cpu" or not report.is_file():
        return None
    found = re.search(r"^MemAvailable: +(\d+) kB$", report.read_text(), re.MULTILINE)
    return None if found is None else 1024 * int(found[1])


def remedies(settings: Any) -> str:
    """Return the options that a run could take less memory with, in words."""
    batch = settings.per_device_train_batch_size
    found = []
    if hasattr(settings, "contrastive_chunk"):
        chunk = min(settings.contrastive_chunk or 2 * CHUNK, batch) // 2
        if chunk:
            found.append(f"--contrastive-chunk {min(CHUNK, chunk)}")
    if not settings.gradient_checkpointing:
        found.append("--gradient-checkpointing")
    if batch > 1:
        found.append(f"--batch-size {batch // 2}")
    return " or ".join([*found, "a smaller model"])


@contextmanager
def explaining(settings: Any) -> Iterator[None]:
    """Say what takes less memory if there isn't enough of it in the block.

    Raises:
        UserError: out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(error, RuntimeError) and not re.search(_NO_MEMORY, str(error)):
            raise
        raise UserError(f"out of memory; try {remedies(settings)}") from error
