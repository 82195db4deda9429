"""Search passages approximately, by a navigable small-world graph over their vectors (usearch)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dalm.progress import track
from dalm.records import Passage
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.topk import top_k

CONNECTIVITY = 32
BUILD_WIDTH = 200
SEARCH_WIDTH = 128
SINGLE_THREADED = 200_000
"""Vectors up to which one thread inserts: threads that insert concurrently lose links, up to 0.013
of recall@10 on 11,000 passages of MedQuAD (0.890 with one thread), and no two graphs are equal."""
ROWS = 16_384  # vectors handed over at once, so that half precision is never widened as a whole


class HnswIndex(ExactIndex):
    """A vector store that is quick for one query and may miss some passages.

    Only the choice of candidates is approximate: their scores are computed from the stored
    vectors, as the exact index does. Vectors may be of any length: on 20,000 clustered ones of 64
    dimensions recall@10 was 0.999 both at length 1 and at lengths of e^N(0,1). Building costs
    many times an exact search over all of them; for evaluating a batch of queries the exact index
    is the quicker one. It is repeatable up to `SINGLE_THREADED` vectors; beyond, threads insert
    concurrently. Malkov and Yashunin, 2018, arXiv:1603.09320.
    """

    kind: ClassVar[str] = "hnsw"

    def __init__(
        self, passages: Sequence[Passage] = (), vectors: Float[Tensor, "N dim"] | None = None
    ) -> None:
        self.graph: Any = None
        super().__init__(passages, vectors)

    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"]) -> None:
        """Add passages with their vectors, and insert the vectors into the graph."""
        before = self.count()
        super().add(passages, vectors)
        first = before if self.count() == before + len(passages) else 0  # else some were replaced
        self._insert(first)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete passages by their ids, and build the graph of the others; return how many."""
        deleted = super().delete(ids)
        if deleted:
            self._insert(0)
        return deleted

    def _insert(self, first: int) -> None:
        if first == 0:
            self.graph = _empty_graph(self.dim)
        threads = 1 if self.count() <= SINGLE_THREADED else 0  # 0: as many as there are cores
        keys = np.arange(first, self.count(), dtype=np.uint64)
        blocks = (keys[start : start + ROWS] for start in range(0, len(keys), ROWS))
        for block in track(blocks, len(keys), "building the graph", "passages", len):
            rows = slice(int(block[0]), int(block[-1]) + 1)
            self.graph.add(block, _array(self.vectors[rows]), threads=threads)

    def _search_rows(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        k = min(k, self.count())
        scores = queries.new_empty(len(queries), k)
        rows = queries.new_empty(len(queries), k, dtype=torch.long)
        if k == 0 or len(queries) == 0:
            return scores, rows
        self.graph.expansion_search = max(SEARCH_WIDTH, 2 * k)
        per_block = max(1, (64 << 20) // (4 * k * self.dim))
        for start in range(0, len(queries), per_block):
            block = slice(start, start + per_block)
            scores[block], rows[block] = self._search_block(queries[block], k)
        return scores, rows

    def _search_block(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        # usearch returns a single query's matches without the leading dimension.
        matches = self.graph.search(_array(queries), k)
        keys = np.asarray(matches.keys).reshape(len(queries), k).astype(np.int64)
        rows = torch.from_numpy(keys).to(queries.device)
        counts = getattr(matches, "counts", [len(matches)])
        too_few = torch.as_tensor(np.asarray(counts, dtype=np.int64) < k, device=queries.device)
        if too_few.any():  # part of the graph can be unreachable: such a query is searched exactly
            rows[too_few] = top_k(queries[too_few], self.vectors, k)[1]
        rows = rows.sort(dim=1).values
        candidates = self.vectors[rows].float()  # (B, K, dim)
        scores = torch.einsum("bd,bkd->bk", queries, candidates)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return scores, rows.gather(1, order)

    def save_graph(self, file: Path) -> None:
        """Write the graph, without passages and vectors."""
        self.graph.save(str(file))

    @classmethod
    def with_graph(
        cls, passages: Sequence[Passage], vectors: Float[Tensor, "N dim"], file: Path
    ) -> "HnswIndex":
        """Return an index of passages and vectors whose graph was saved: nothing is built again.

        Raises OSError, RuntimeError or ValueError if the graph is missing, broken or another's.
        """
        if not file.is_file():
            raise FileNotFoundError(f"{file.name} is missing")
        index = cls()
        ExactIndex.add(index, passages, vectors)
        index.graph = _empty_graph(index.dim)
        index.graph.load(str(file))
        if (len(index.graph), index.graph.ndim) != (index.count(), index.dim):
            raise ValueError(
                f"a graph of {len(index.graph)} vectors, {index.graph.ndim} dimensions, "
                f"for {index.count()} passages, {index.dim} dimensions"
            )
        return index


def _empty_graph(dim: int) -> Any:
    from usearch.index import Index as Graph

    return Graph(
        ndim=dim,
        metric="ip",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=BUILD_WIDTH,
        expansion_search=SEARCH_WIDTH,
    )


def _array(vectors: Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(vectors.float().cpu().numpy())
