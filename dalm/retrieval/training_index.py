"""A knowledge base's vectors while the encoder that made them moves on: searched, renewed, saved.

Each rank owns a share of the rows, searches it, and the ranks merge what they found: exact search,
without an approximate index to rebuild. 10 million vectors of 1,024 dimensions are 40 GB in fp32,
over all ranks together.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dalm.collectives import gather, gather_ragged
from dalm.distributed import rank, world_size
from dalm.retrieval.topk import top_k

Encode = Callable[[np.ndarray], Float[Tensor, "rows dim"]]
"""Turn rows of the knowledge base into vectors, with the weights of this moment."""


class LivingIndex:
    """Exact search over vectors that may be stale.

    `age` counts the updates since all of them were made, `work` the arithmetic; whoever trains
    counts.

    A refresh fills a new tensor and puts it in the old one's place when it is whole: no search ever
    sees half of one. `identity` names the passages, in order: a saved index is taken up again only
    for the same.
    """

    def __init__(self, count: int, identity: str, device: torch.device) -> None:
        self.count, self.identity, self.device = count, identity, device
        self.vectors: Tensor | None = None
        self.age = 0
        self.work = 0.0
        self.refreshes = 0
        self.seconds = 0.0

    def __len__(self) -> int:
        """Return the number of passages, over all ranks."""
        return self.count

    # Asked anew each time: an index may be made before the ranks know of each other.

    @property
    def ranks(self) -> int:
        """Number of shares."""
        return world_size()

    @property
    def start(self) -> int:
        """First row of this rank's share."""
        return self.count * rank() // self.ranks

    @property
    def end(self) -> int:
        """The row behind its last."""
        return self.count * (rank() + 1) // self.ranks

    @property
    def own(self) -> Float[Tensor, "rows dim"]:
        """This rank's share of the vectors."""
        assert self.vectors is not None, "refresh before the first search"
        return self.vectors

    def refresh(self, encode: Encode) -> None:
        """Encode this rank's share again."""
        began = time.perf_counter()
        self.vectors = encode(np.arange(self.start, self.end)).to(self.device)
        self.age = 0
        self.refreshes += 1
        self.seconds += time.perf_counter() - began

    def search(
        self, queries: Float[Tensor, "B dim"], k: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return each query's K = min(k, N) best passages: scores in fp32, and rows, best first.

        Every rank brings as many queries and gets the answers to its own, from all shares.
        """
        k = min(k, self.count)
        asked = gather(queries.detach().float())
        scores, rows = top_k(asked, self.own, k)
        if self.ranks == 1:
            return scores, rows
        short = k - scores.shape[1]  # a share smaller than k
        scores = torch.nn.functional.pad(scores, (0, short), value=float("-inf"))
        rows = torch.nn.functional.pad(rows + self.start, (0, short), value=-1)
        mine = slice(rank() * len(queries), (rank() + 1) * len(queries))
        found = [
            torch.cat([part[mine] for part in gather(x).chunk(self.ranks)], 1)
            for x in (scores, rows)
        ]
        # Stable, and shares stand in the order of their rows: ties fall as in one process.
        scores, order = found[0].sort(dim=1, descending=True, stable=True)
        return scores[:, :k], found[1].gather(1, order[:, :k])

    def lookup(self, rows: Int[Tensor, "B P"]) -> Float[Tensor, "B P dim"]:
        """Return the vectors of rows of any share, of -1 zeros; every rank asks for as many."""
        wanted = gather(rows.flatten())
        here = (wanted >= self.start) & (wanted < self.end)
        vectors = self.own.new_zeros(len(wanted), self.own.shape[1])
        vectors[here] = self.own[wanted[here] - self.start]
        if self.ranks > 1:
            torch.distributed.all_reduce(vectors)
            vectors = vectors.chunk(self.ranks)[rank()]
        return vectors.view(*rows.shape, -1)

    def write(self, rows: Int[Tensor, "n"], vectors: Float[Tensor, "n dim"]) -> None:
        """Replace the vectors of rows of any rank's share."""
        rows, vectors = gather_ragged(rows), gather_ragged(vectors.detach())
        here = (rows >= self.start) & (rows < self.end)
        self.own[rows[here] - self.start] = vectors[here].to(self.own.dtype)

    def save(self, file: Path) -> None:
        """Write this rank's share."""
        state = {"age": self.age, "work": self.work, "refreshes": self.refreshes}
        text = {name: str(value) for name, value in state.items()}
        text["identity"] = self._identity()
        save_file({"vectors": self.own.contiguous()}, file, metadata=text)

    def load(self, file: Path) -> str | None:
        """Take up what `save` wrote, or return why that can't be."""
        try:
            with safe_open(file, "pt") as stored:
                state = stored.metadata()
                if state["identity"] != self._identity():
                    return "the knowledge base or the number of processes is another"
                self.vectors = stored.get_tensor("vectors").to(self.device)
                self.age, self.refreshes = int(state["age"]), int(state["refreshes"])
                self.work = float(state["work"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return "it is missing or broken"
        return None

    def _identity(self) -> str:
        return f"{self.identity} {self.start} {self.end} {self.count}"
