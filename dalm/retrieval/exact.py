"""Search passages exactly, over vectors in memory."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.topk import top_k


class ExactIndex:
    """A vector store that compares a query with every passage, by inner product.

    `vectors`, (N, dim), are stored as they are given, in any float type and on any device; scores
    are computed, accumulated and returned in fp32. Adding to an index that holds passages copies
    all vectors once.
    """

    kind: ClassVar[str] = "exact"

    def __init__(
        self, passages: Sequence[Passage] = (), vectors: Float[Tensor, "N dim"] | None = None
    ) -> None:
        self.passages: list[Passage] = []
        self.vectors: Float[Tensor, "N dim"] = torch.empty(0, 0)
        self._rows: dict[str, int] | None = None  # by id, when it is first needed
        if vectors is not None:
            self.add(passages, vectors)

    def count(self) -> int:
        """Return the number of passages."""
        return len(self.passages)

    @property
    def dim(self) -> int:
        """The number of dimensions of a vector; 0 before the first `add`."""
        return self.vectors.shape[1]

    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"]) -> None:
        """Add passages with their vectors, behind those that are there.

        Raises ValueError if there are more or fewer vectors, or their dimension is another.
        """
        if vectors.ndim != 2 or len(vectors) != len(passages):
            raise ValueError(f"{len(passages)} passages, but vectors {tuple(vectors.shape)}")
        if self.passages and vectors.shape[1] != self.dim:
            raise ValueError(f"vectors of {vectors.shape[1]} dimensions in an index of {self.dim}")
        new = vectors.detach()
        self.vectors = torch.cat([self.vectors, new.to(self.vectors)]) if self.passages else new
        self.passages.extend(passages)
        self._rows = None

    def search(self, vectors: Float[Tensor, "B dim"], k: int) -> list[list[Hit]]:
        """Return the min(k, N) best passages for each vector of a query, best first.

        Equal scores are in the order in which the passages were added. Raises UserError if the
        dimension is another than the passages', ValueError for k < 1 and for a score that is NaN.
        """
        scores, rows = self.search_rows(vectors, k)
        return [
            [Hit(self.passages[row], score) for score, row in zip(*line, strict=True)]
            for line in zip(scores.tolist(), rows.tolist(), strict=True)
        ]

    def search_rows(
        self, vectors: Float[Tensor, "B dim"], k: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return the K = min(k, N) best scores, fp32, and rows of `passages`, as `search` does.

        Both are on the device of the index's vectors.
        """
        if vectors.ndim != 2 or (self.dim and vectors.shape[1] != self.dim):
            raise UserError(
                f"queries of shape {tuple(vectors.shape)} don't fit an index of {self.dim} "
                "dimensions: search with the retriever that built the index, or build it again"
            )
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        queries = vectors.detach().to(self.vectors.device).float()
        scores, rows = self._search_rows(queries, k)
        if scores.isnan().any():
            raise ValueError("a score is NaN: the vector of a query or of a passage holds NaN")
        return scores, rows

    def _search_rows(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return top_k(queries, self.vectors, k)

    def vectors_of(self, ids: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages by their ids. Raises KeyError for an unknown id."""
        if self._rows is None:
            self._rows = {passage.id: row for row, passage in enumerate(self.passages)}
        rows = self._rows
        return self.vectors[[rows[each] for each in ids]]
