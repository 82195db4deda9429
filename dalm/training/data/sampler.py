"""Sample batches of similar length in random order, sharded over ranks, and load them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from dalm.training.data.batches import TrainingRows


class LengthBatches(Sampler[list[int]]):
    """Sample batches of similar length in random order, no key twice in one; this rank's shard.

    Rows are shuffled, taken `POOL` batches at a time, sorted by length and distributed: padding
    shrinks while every epoch mixes its batches again. All batches are of one size, or of two sizes
    that differ by one per rank, so none is too small for negatives. The order depends only on seed
    and epoch, so a resumed run gets the same batches.
    """

    POOL = 16

    def __init__(
        self,
        rows: TrainingRows,
        size: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.training_rows = rows
        self.lengths, self.keys = rows.lengths(), rows.gold_keys()
        self.seed, self.epoch = seed, 0
        self.rank, self.ranks = rank, ranks
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
        sizes = self._sizes()
        batches: list[list[int]] = []
        start = 0
        for pool in np.array_split(sizes, -(-len(sizes) // self.POOL)):
            part = pool.tolist()
            rows = order[start : start + sum(part)]
            start += len(rows)
            batches += self._distribute(rows[np.argsort(self.lengths[rows], kind="stable")], part)
        for batch in random.permutation(len(batches)):
            yield batches[batch][self.rank :: self.ranks]

    def _sizes(self) -> list[int]:
        """Return the batches' sizes over all ranks: multiples of the ranks, nearly equal."""
        each, more = divmod(self.rows // self.ranks, self.batches)
        return [(each + (batch < more)) * self.ranks for batch in range(self.batches)]

    def _distribute(self, rows: np.ndarray, sizes: list[int]) -> list[list[int]]:
        """Assign each row, shortest first, to the first batch with room that lacks its key.

        Where every batch with room has the key already, the row is swapped with one of another
        batch; where that isn't possible either, the loss masks the duplicate.
        """
        batches: list[list[int]] = [[] for _ in sizes]
        keys: list[set[int]] = [set() for _ in sizes]
        first = 0
        for row in rows.tolist():
            key = int(self.keys[row])
            while len(batches[first]) == sizes[first]:
                first += 1
            free = [b for b in range(first, len(sizes)) if len(batches[b]) < sizes[b]]
            chosen = next((b for b in free if key not in keys[b]), free[0])
            batches[chosen].append(row)
            if key in keys[chosen]:
                self._swap(batches, keys, chosen)
            keys[chosen].add(int(self.keys[batches[chosen][-1]]))
        return batches

    def _swap(self, batches: list[list[int]], keys: list[set[int]], chosen: int) -> None:
        """Swap a batch's last row with one of a batch that lacks its key."""
        row = batches[chosen][-1]
        for b in reversed(range(len(batches))):  # later batches are nearer in length
            if int(self.keys[row]) in keys[b]:
                continue
            for place, other in enumerate(batches[b]):
                if int(self.keys[other]) not in keys[chosen]:
                    batches[b][place], batches[chosen][-1] = row, other
                    keys[b] = set(self.keys[batches[b]].tolist())
                    return


class EpochLoader(DataLoader[Any]):
    """Load batches, and pass the epoch on to the sampler."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the sampler."""
        assert isinstance(self.batch_sampler, LengthBatches)
        self.batch_sampler.set_epoch(epoch)
