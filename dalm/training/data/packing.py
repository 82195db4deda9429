"""Pack documents into rows of equal length, so that every token is scored once.

A document is a start token, its text and an end token; every token but the first is scored, the end
too. A document longer than a row is cut into windows, each of which begins with the last token of
the one before: that token is read twice and scored once, and none is lost.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dalm.models.batching import Ragged, Sequences, pad
from dalm.training.data.batches import Batch, TrainingRows


class PackedBatch(Batch, total=False):
    """Hold rows of packed documents, padded to the longest."""

    tokens: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"]
    """A token's position in its document: 0 starts the next one. Padding counts as a document."""
    scored: Bool[Tensor, "rows length"]
    """All but the windows' first tokens and the padding."""
    count: int
    """Number of scored tokens."""
    read: int
    """Tokens without padding."""


class PackedRows(TrainingRows):
    """Pack documents into training rows of at most `length` tokens.

    Rows are packed once, by best fit; every epoch has the same ones, shuffled by the sampler. Their
    number is a multiple of `ranks`, so that no rank has to drop one.
    """

    def __init__(
        self, documents: Sequences, length: int, *, pad_token: int = 0, ranks: int = 1
    ) -> None:
        self.tokens = Ragged(documents)
        self.pad_token = pad_token
        self.begins, self.sizes = windows(self.tokens.starts[:-1], self.tokens.lengths, length)
        self.rows = best_fit(self.sizes, length)
        if self.rows:
            self._even_out(ranks)

    def __len__(self) -> int:
        return len(self.rows)

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each row."""
        return np.array([self.sizes[row].sum() for row in self.rows], np.int64)

    def describe(self) -> str:
        """Return a line on how much data there is."""
        lengths = self.lengths()
        filled = lengths.sum() / (len(self) * lengths.max(initial=1)) if len(self) else 0.0
        return (
            f"{len(self.tokens)} documents, {self.scored():,} tokens to learn, packed into "
            f"{len(self)} rows of {lengths.max(initial=0)} ({filled:.1%} full)"
        )

    def scored(self) -> int:
        """Return the number of tokens that one epoch trains on."""
        return int((self.sizes - 1).sum())

    def collate(self, rows: Sequence[int]) -> Batch:
        """Return a batch of some rows, padded to the longest."""
        packed = [self.rows[row] for row in rows]
        parts = [[self._window(place) for place in row] for row in packed]
        tokens, mask = pad([np.concatenate(row) for row in parts], self.pad_token)
        width = tokens.shape[1]
        positions = torch.stack([_positions(self.sizes[row], width) for row in packed])
        scored = (positions > 0) & mask.bool()
        batch: PackedBatch = {
            "tokens": tokens,
            "positions": positions,
            "scored": scored,
            "count": int(scored.sum()),
            "read": int(mask.sum()),
        }
        return cast(Batch, batch)

    def _window(self, place: int) -> np.ndarray:
        begin = self.begins[place]
        return self.tokens.flat[begin : begin + self.sizes[place]]

    def _even_out(self, ranks: int) -> None:
        """Split rows, between windows if possible, until the ranks divide their number."""
        while len(self.rows) % ranks:
            fullest = max(range(len(self.rows)), key=lambda row: len(self.rows[row]))
            row = self.rows[fullest]
            if len(row) == 1:
                fullest = max(range(len(self.rows)), key=lambda row: self.sizes[self.rows[row]][0])
                row = self._halve(self.rows[fullest][0])
            self.rows[fullest], half = row[: len(row) // 2], row[len(row) // 2 :]
            self.rows.append(half)

    def _halve(self, place: int) -> np.ndarray:
        """Split a window in two; the second begins with the last token of the first."""
        first = self.sizes[place] // 2 + 1
        self.begins = np.append(self.begins, self.begins[place] + first - 1)
        self.sizes = np.append(self.sizes, self.sizes[place] - first + 1)
        self.sizes[place] = first
        return np.array([place, len(self.sizes) - 1])


def windows(starts: np.ndarray, lengths: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut documents into windows of at most `longest` tokens; return their begins and sizes.

    A window begins with the last token of the one before, so that a document of n + 1 tokens has n
    scored ones however it is cut. A document of one token has none, and no window.
    """
    counts = np.maximum(-(-(lengths - 1) // (longest - 1)), 0)
    within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    before = within * (longest - 1)
    sizes = np.minimum(np.repeat(lengths, counts) - before, longest)
    return np.repeat(starts, counts) + before, sizes


def best_fit(sizes: np.ndarray, room: int) -> list[np.ndarray]:
    """Pack pieces into rows of `room` tokens: largest first, each where the least room is left.

    Returns the places of each row's pieces. Best-fit decreasing needs at most 11/9 of the fewest
    rows and one more (Johnson 1974); with texts it is within a per cent of them.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(room + 1)]
    free_sizes = 0  # bit r: there is a row with r tokens of room
    for place in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[place])
        fitting = free_sizes >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1
            row = with_room[left].pop()
            if not with_room[left]:
                free_sizes &= ~(1 << left)
            rows[row].append(place)
        else:
            left, row = room, len(rows)
            rows.append([place])
        left -= size
        with_room[left].append(row)
        free_sizes |= 1 << left
    return [np.array(row, np.int64) for row in rows]


def _positions(sizes: np.ndarray, width: int) -> Tensor:
    """Count from 0 in each piece, and in the padding after them."""
    filled = np.append(sizes, width - sizes.sum())
    begins = np.repeat(filled.cumsum() - filled, filled)
    return torch.from_numpy(np.arange(width) - begins)


def replayed(documents: Sequences, tokens: int, seed: int) -> list[np.ndarray]:
    """Draw documents with exactly `tokens` scored tokens, in random order; the last one is cut.

    Where there are too few, they are drawn again in another order, as often as needed.
    """
    random = np.random.default_rng([seed, 1])
    usable = [row for row in range(len(documents)) if len(documents[row]) > 1]
    assert usable or not tokens
    drawn: list[np.ndarray] = []
    while tokens:
        for row in random.permutation(usable).tolist():
            document = np.asarray(documents[row], np.int32)[: tokens + 1]
            drawn.append(document)
            tokens -= len(document) - 1
            if not tokens:
                break
    return drawn
