"""Search a knowledge base exactly during training, with vectors that are refreshed now and then.

The rows are sharded over the ranks: each searches its shard, and the results are merged. Search is
exact, so there is no approximate index to rebuild. 10 million vectors of 1,024 dimensions are 40 GB
in fp32, over all ranks together.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dalm.collectives import gather, gather_ragged
from dalm.distributed import position
from dalm.retrieval.topk import top_k

Encode = Callable[[np.ndarray], Float[Tensor, "rows dim"]]
"""Turn rows of the knowledge base into vectors, with the encoder's current weights."""


class TrainingIndex:
    """Search vectors exactly that may be stale.

    `age` is the number of updates since the last refresh, `work` the arithmetic since then; the
    objective counts both.

    A refresh fills a new tensor that replaces the old one when it is complete: no search sees a
    partial one. `identity` is a hash of the passages, in order: a saved index is loaded again only
    for the same passages.
    """

    def __init__(self, count: int, identity: str, device: torch.device) -> None:
        self.count, self.identity, self.device = count, identity, device
        self.vectors: Tensor | None = None
        self.age = 0
        self.work = 0.0
        self.refreshes = 0
        self.seconds = 0.0
        self.places = np.arange(count)

    def __len__(self) -> int:
        """Return the number of passages, over all ranks."""
        return self.count

    # Read each time: an index may be made before the process group is.

    @property
    def ranks(self) -> int:
        """Number of shards."""
        return position()[1]

    @property
    def rank(self) -> int:
        """Which shard is this rank's."""
        return position()[0]

    @property
    def start(self) -> int:
        """First row of this rank's shard."""
        return self.count * self.rank // self.ranks

    @property
    def end(self) -> int:
        """The row after its last."""
        return self.count * (self.rank + 1) // self.ranks

    @property
    def own(self) -> Float[Tensor, "rows dim"]:
        """This rank's shard of the vectors."""
        assert self.vectors is not None, "refresh before the first search"
        return self.vectors

    def refresh(self, encode: Encode) -> None:
        """Encode this rank's shard again."""
        start = time.perf_counter()
        self.vectors = encode(np.arange(self.start, self.end)).to(self.device)
        self.age = 0
        self.refreshes += 1
        self.seconds += time.perf_counter() - start

    def search(
        self, queries: Float[Tensor, "B dim"], k: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return each query's K = min(k, N) best passages: scores in fp32, and rows, best first.

        Every rank must have the same number of queries; each gets the results of its own, from all
        shards.
        """
        k = min(k, self.count)
        scores, rows = top_k(gather(queries.detach().float()), self.own, k)
        if self.ranks == 1:
            return scores, rows
        missing = k - scores.shape[1]  # of a shard smaller than k
        scores = torch.nn.functional.pad(scores, (0, missing), value=float("-inf"))
        rows = torch.nn.functional.pad(rows + self.start, (0, missing), value=-1)
        own = slice(self.rank * len(queries), (self.rank + 1) * len(queries))
        found = [
            torch.cat([part[own] for part in gather(x).chunk(self.ranks)], 1)
            for x in (scores, rows)
        ]
        # Stable, and shards are in the order of their rows: ties are ordered as in one process.
        scores, order = found[0].sort(dim=1, descending=True, stable=True)
        return scores[:, :k], found[1].gather(1, order[:, :k])

    def lookup(self, rows: Int[Tensor, "B P"]) -> Float[Tensor, "B P dim"]:
        """Return the vectors of rows of any shard, of -1 zeros; every rank must ask for as many."""
        wanted = gather(rows.flatten())
        own = (wanted >= self.start) & (wanted < self.end)
        vectors = self.own.new_zeros(len(wanted), self.own.shape[1])
        vectors[own] = self.own[wanted[own] - self.start]
        if self.ranks > 1:
            torch.distributed.all_reduce(vectors)
            vectors = vectors.chunk(self.ranks)[self.rank]
        return vectors.view(*rows.shape, -1)

    def write(self, rows: Int[Tensor, "n"], vectors: Float[Tensor, "n dim"]) -> None:
        """Replace the vectors of rows of any shard."""
        rows, vectors = gather_ragged(rows), gather_ragged(vectors.detach())
        own = (rows >= self.start) & (rows < self.end)
        self.own[rows[own] - self.start] = vectors[own].to(self.own.dtype)

    def save(self, file: Path) -> None:
        """Write this rank's shard."""
        state = {"age": self.age, "work": self.work, "refreshes": self.refreshes}
        text = {name: str(value) for name, value in state.items()}
        text["identity"] = self._identity()
        save_file({"vectors": self.own.contiguous()}, file, metadata=text)

    def load(self, file: Path) -> str | None:
        """Read what `save` wrote, or return why it can't be used.

        If it isn't this rank's shard, as the run had another number of ranks, the shard is put
        together from all files whose names differ from this one's by the number.
        """
        try:
            shards = [_SavedShard.read(file)] if file.is_file() else []
            if [shard.rows for shard in shards] != [range(self.start, self.end)]:
                others = file.parent.glob(file.stem.rstrip("0123456789") + f"*{file.suffix}")
                shards = [_SavedShard.read(each) for each in others]
            return self._take(sorted(shards, key=lambda shard: shard.rows.start))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError):
            return "it is missing or broken"

    def _take(self, shards: Sequence["_SavedShard"]) -> str | None:
        """Take this rank's rows from saved shards, in the order of their rows."""
        if any(shard.identity != self.identity or shard.passages != self.count for shard in shards):
            return "the knowledge base is another"
        vectors = torch.cat([shard.part(self.start, self.end) for shard in shards])
        if len(vectors) != self.end - self.start:
            return "a part of it is missing"
        is_own = shards[0].rows == range(self.start, self.end)
        self.vectors = vectors.to(self.device)
        self.age, self.refreshes = shards[0].age, shards[0].refreshes
        # The ranks' work is only ever summed.
        self.work = sum(shard.work for shard in shards) / (1 if is_own else self.ranks)
        return None

    def _identity(self) -> str:
        return f"{self.identity} {self.start} {self.end} {self.count}"


class _SavedShard(NamedTuple):
    """Vectors of some rows in a file, and what is said of them."""

    file: Path
    identity: str
    passages: int
    rows: range
    age: int
    refreshes: int
    work: float

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what is said of a file's vectors."""
        with safe_open(file, "pt") as stored:
            state = stored.metadata()
        identity, start, end, passages = state["identity"].rsplit(" ", 3)
        rows = range(int(start), int(end))
        said = int(state["age"]), int(state["refreshes"]), float(state["work"])
        return cls(file, identity, int(passages), rows, *said)

    def part(self, start: int, end: int) -> Float[Tensor, "rows dim"]:
        """Return the vectors of those of its rows that are from `start` to before `end`."""
        first, last = (min(max(row - self.rows.start, 0), len(self.rows)) for row in (start, end))
        with safe_open(self.file, "pt") as stored:
            vectors: Tensor = stored.get_slice("vectors")[first:last]
        return vectors


class SampledIndex(TrainingIndex):
    """Search a sample of the passages, spread evenly: for a dry run, which can't encode them all.

    A passage outside the sample has the vector of the one that follows it there.
    """

    def __init__(self, count: int, identity: str, device: torch.device, most: int) -> None:
        super().__init__(min(most, count), identity, device)
        self.places = np.linspace(0, count - 1, self.count).astype(np.int64)
        self._on_device = torch.from_numpy(self.places).to(device)

    def refresh(self, encode: Encode) -> None:
        """Encode this rank's share of the sample again."""
        super().refresh(lambda rows: encode(self.places[rows]))

    def search(
        self, queries: Float[Tensor, "B dim"], k: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return each query's best passages of the sample."""
        scores, rows = super().search(queries, k)
        return scores, self._on_device[rows]

    def lookup(self, rows: Int[Tensor, "B P"]) -> Float[Tensor, "B P dim"]:
        """Return the vectors at places, each of the next passage of the sample."""
        return super().lookup(torch.searchsorted(self._on_device, rows))

    def write(self, rows: Int[Tensor, "n"], vectors: Float[Tensor, "n dim"]) -> None:
        """Replace nothing."""
