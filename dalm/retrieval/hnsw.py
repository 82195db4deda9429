"""An approximate index: a navigable small-world graph over the vectors, by usearch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dalm.errors import UserError
from dalm.progress import track
from dalm.records import Passage
from dalm.retrieval.exact import Index
from dalm.retrieval.topk import top_k

GRAPH = "graph.usearch"
NEIGHBOURS = 32
BUILD_WIDTH = 200
SEARCH_WIDTH = 128
ONE_BY_ONE = 200_000
"""Vectors up to which one thread inserts: threads that insert side by side lose links, up to 0.013
of recall@10 on 11,000 passages of MedQuAD (0.890 by one thread), and no two graphs are equal."""
ROWS = 16_384  # vectors handed over at once, so that half precision is never widened whole


class HnswIndex(Index):
    """Search passages through a hierarchical graph: quick for one query, and it may miss some.

    Only the choice of candidates is approximate: their scores are computed from the stored
    vectors, as the exact index does. Vectors are taken to be normalised. Building costs
    many times an exact search over all of them; for evaluating a batch of queries the exact index
    is the quicker one. It is repeatable up to `ONE_BY_ONE` vectors; beyond, threads insert side by
    side. Malkov and Yashunin, 2018, arXiv:1603.09320. Raises UserError if usearch is missing.
    """

    kind: ClassVar[str] = "hnsw"

    def __init__(
        self,
        passages: Sequence[Passage],
        vectors: Float[Tensor, "N dim"],
        fingerprint: str | None = None,
        graph: Path | None = None,
    ) -> None:
        super().__init__(passages, vectors, fingerprint)
        self.graph = _empty_graph(self.dim)
        if graph is None:
            threads = 1 if len(self) <= ONE_BY_ONE else 0  # 0: as many as there are cores
            starts = range(0, len(self), ROWS)
            for start in track(starts, len(starts), "building the graph", "block"):
                block = _array(self.vectors[start : start + ROWS])
                keys = np.arange(start, start + len(block), dtype=np.uint64)
                self.graph.add(keys, block, threads=threads)
        else:
            self.graph.load(str(graph))
        if (len(self.graph), self.graph.ndim) != (len(self), self.dim):
            raise ValueError(
                f"a graph of {len(self.graph)} vectors, {self.graph.ndim} dimensions, "
                f"for {len(self)} passages, {self.dim} dimensions"
            )

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        k = min(k, len(self))
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
        # One query alone comes back without the leading dimension.
        matches = self.graph.search(_array(queries), k)
        keys = np.asarray(matches.keys).reshape(len(queries), k).astype(np.int64)
        rows = torch.from_numpy(keys).to(queries.device)
        counts = getattr(matches, "counts", [len(matches)])
        short = torch.as_tensor(np.asarray(counts, dtype=np.int64) < k, device=queries.device)
        if short.any():  # a part of the graph can be out of reach: such a query is searched exactly
            rows[short] = top_k(queries[short], self.vectors, k)[1]
        rows = rows.sort(dim=1).values
        candidates = self.vectors[rows].float()  # (B, K, dim)
        scores = torch.einsum("bd,bkd->bk", queries, candidates)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return scores, rows.gather(1, order)

    def _write(self, folder: Path) -> None:
        super()._write(folder)
        self.graph.save(str(folder / GRAPH))

    @classmethod
    def _restore(
        cls, folder: Path, passages: list[Passage], vectors: Tensor, fingerprint: str | None
    ) -> "HnswIndex":
        if not (folder / GRAPH).is_file():
            raise FileNotFoundError(f"{GRAPH} is missing")
        return cls(passages, vectors, fingerprint, graph=folder / GRAPH)


def _empty_graph(dim: int) -> Any:
    try:
        from usearch.index import Index as Graph
    except ImportError as error:
        raise UserError(
            'the hnsw index needs usearch: pip install "indomain[hnsw]", or choose the exact index'
        ) from error
    return Graph(
        ndim=dim,
        metric="ip",
        dtype="f32",
        connectivity=NEIGHBOURS,
        expansion_add=BUILD_WIDTH,
        expansion_search=SEARCH_WIDTH,
    )


def _array(vectors: Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(vectors.float().cpu().numpy())
