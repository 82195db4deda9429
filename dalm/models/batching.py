"""Store token sequences compactly, pad them into batches, and group them by length."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

Sequences = Sequence[Sequence[int] | np.ndarray]


class Ragged:
    """Token sequences in one array: 4 bytes per token, where Python lists take 36."""

    def __init__(self, sequences: Sequences) -> None:
        self.lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
        self.starts = np.concatenate([[0], self.lengths.cumsum()])
        self.flat = np.empty(self.starts[-1], np.int32)
        for start, sequence in zip(self.starts, sequences, strict=False):
            self.flat[start : start + len(sequence)] = sequence

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.flat[self.starts[row] : self.starts[row + 1]]


def pad(
    sequences: Sequences, pad_token: int, *, left: bool = False
) -> tuple[Int[Tensor, "rows length"], Int[Tensor, "rows length"]]:
    """Return input ids and attention mask of the sequences, padded to the longest of them."""
    lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
    width = int(lengths.max(initial=1))
    ids = np.full((len(sequences), width), pad_token, np.int64)
    columns = np.arange(width)
    mask = columns >= (width - lengths)[:, None] if left else columns < lengths[:, None]
    if lengths.sum():
        ids[mask] = np.concatenate([np.asarray(s, np.int64) for s in sequences])
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def by_length(lengths: np.ndarray, budget: int, most: int) -> Iterator[np.ndarray]:
    """Yield groups of rows of similar length, longest first: out of memory shows at once.

    A group holds at most `most` rows and at most `budget` tokens, padding included.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        size = max(1, min(most, budget // longest))
        yield order[start : start + size]
        start += size


def by_equal_length(lengths: np.ndarray, budget: int, most: int) -> Iterator[np.ndarray]:
    """Yield groups of rows of one length, longest first, so that none of them is padded."""
    for length in sorted({*lengths.tolist()}, reverse=True):
        rows = np.flatnonzero(lengths == length)
        for group in by_length(lengths[rows], budget, most):
            yield rows[group]


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device."""
    if torch.is_tensor(batch):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    return batch
