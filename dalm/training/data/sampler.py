"""Sample batches of similar length in random order, and load them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from dalm.training.data.batches import TrainingRows


class LengthBatches(Sampler[list[int]]):
    """Sample batches of similar length in random order, no key twice in one, for all ranks.

    Rows are shuffled, taken `POOL` batches at a time, sorted by length and distributed: padding
    shrinks while every epoch mixes its batches again. All batches are of one size, or of two sizes
    that differ by one per rank, so none is too small for negatives. The order depends only on seed
    and epoch, so a resumed run gets the same batches.

    A batch has the rows of all ranks; each takes its share of it (`TrainingRows.collate_share`). W
    ranks with B/W rows each get the batches of one process with B, if B divides the rows. Otherwise
    the sizes differ: every rank gets as many rows, so a batch has a multiple of W, and up to W - 1
    rows, others in each epoch, are left out.
    """

    POOL = 16

    def __init__(
        self,
        rows: TrainingRows,
        size: int,
        seed: int,
        *,
        ranks: int = 1,
    ) -> None:
        self.training_rows = rows
        self.lengths, self.keys = rows.lengths(), rows.keys_apart()
        self.seed, self.epoch = seed, 0
        self.ranks = ranks
        self.rows = len(self.lengths) // ranks * ranks
        self.batches = -(-self.rows // (size * ranks))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the order, and that of the rows' random draws.

        Where a run resumes in the middle of an epoch, only the sampler is told which: accelerate
        wraps the loader.
        """
        self.epoch = epoch
        self.training_rows.set_epoch(epoch)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))[: self.rows]
        sizes = self.sizes()
        batches: list[list[int]] = []
        start = 0
        for pool in np.array_split(sizes, -(-len(sizes) // self.POOL)):
            part = pool.tolist()
            rows = order[start : start + sum(part)]
            start += len(rows)
            batches += self._distribute(rows[np.argsort(self.lengths[rows], kind="stable")], part)
        for batch in random.permutation(len(batches)):
            yield batches[batch]

    def sizes(self) -> list[int]:
        """Return the batches' sizes over all ranks: multiples of the ranks, nearly equal."""
        each, more = divmod(self.rows // self.ranks, self.batches)
        return [(each + (batch < more)) * self.ranks for batch in range(self.batches)]

    def _distribute(self, rows: np.ndarray, sizes: list[int]) -> list[list[int]]:
        """Assign each row, shortest first, to the first batch with room that lacks its keys.

        Where every batch with room has one of them already, the row is swapped with one of another
        batch; where that isn't possible either, the losses mask what is no negative.
        """
        batches: list[list[int]] = [[] for _ in sizes]
        keys: list[set[int]] = [set() for _ in sizes]
        keys_of = dict(zip(rows.tolist(), self.keys[rows].tolist(), strict=True))
        first = 0
        for row, own in keys_of.items():
            while len(batches[first]) == sizes[first]:
                first += 1
            free = [b for b in range(first, len(sizes)) if len(batches[b]) < sizes[b]]
            chosen = next((b for b in free if keys[b].isdisjoint(own)), free[0])
            batches[chosen].append(row)
            if not keys[chosen].isdisjoint(own):
                _swap(batches, keys, chosen, keys_of)
            keys[chosen].update(keys_of[batches[chosen][-1]])
        return batches


def _swap(
    batches: list[list[int]],
    keys: list[set[int]],
    chosen: int,
    keys_of: Mapping[int, Sequence[int]],
) -> None:
    """Swap a batch's last row with one of a batch that lacks its keys."""
    row = batches[chosen][-1]
    for b in reversed(range(len(batches))):  # later batches are nearer in length
        if not keys[b].isdisjoint(keys_of[row]):
            continue
        for place, other in enumerate(batches[b]):
            if keys[chosen].isdisjoint(keys_of[other]):
                batches[b][place], batches[chosen][-1] = row, other
                keys[b] = {key for each in batches[b] for key in keys_of[each]}
                return


class EpochLoader(DataLoader[Any]):
    """Load batches, and pass the epoch on to the sampler."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the sampler."""
        assert isinstance(self.batch_sampler, LengthBatches)
        self.batch_sampler.set_epoch(epoch)
