"""Search passages exactly over vectors in memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalm.errors import UserError
from dalm.records import Hit, Passage, distinct_by_id
from dalm.retrieval.base import Encoder, best_in_order, check_added, check_k
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.conditions import Condition
from dalm.retrieval.stored_values import column_types, digest_of, values_of
from dalm.retrieval.topk import top_k
from dalm.retrieval.where import FIELDS, Columns


class ExactIndex:
    """A vector store that compares a query with every passage, by inner product.

    `vectors`, (N, dim), are stored as they are given, in any float type and on any device; scores
    are computed, accumulated and returned in fp32. Adding to an index that holds passages copies
    all vectors once.
    """

    keeps_order = True

    def __init__(
        self, passages: Sequence[Passage] = (), vectors: Float[Tensor, "N dim"] | None = None
    ) -> None:
        self.passages: list[Passage] = []
        self.vectors: Float[Tensor, "N dim"] = torch.empty(0, 0)
        self.tuning: dict[str, int] = {}
        self._added: dict[str, type] = {}
        self._forget_rows()
        if vectors is not None:
            self.add(passages, vectors)

    def _forget_rows(self) -> None:
        """Drop what is made of the passages when it is first needed."""
        self._rows: dict[str, int] | None = None  # by id
        self._words: BM25 | None = None

    @property
    def columns(self) -> Columns:
        """What a condition may name, with types."""
        return {**FIELDS, **column_types(self.passages), **self._added}

    def add_columns(self, columns: Mapping[str, type]) -> None:
        """Add columns for conditions."""
        self._added = {**columns, **self._added}

    def count(self, where: Condition | None = None) -> int:
        """Return the number of passages, of those that fulfil a condition if it is given."""
        return len(self.passages) if where is None else len(self._fulfilling(where))

    def _fulfilling(self, where: Condition) -> list[int]:
        columns = self.columns
        values = (values_of(passage, columns) for passage in self.passages)
        return [row for row, each in enumerate(values) if where.holds(each)]

    def select(
        self, columns: Sequence[str], where: Condition | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield each passage's values of these columns, of those that fulfil a condition."""
        types = {name: self.columns[name] for name in columns}
        rows = range(len(self.passages)) if where is None else self._fulfilling(where)
        for row in rows:
            values = values_of(self.passages[row], types)
            yield tuple(values[name] for name in columns)

    @property
    def dim(self) -> int:
        """The number of dimensions of a vector; 0 before the first `add`."""
        return self.vectors.shape[1]

    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"]) -> None:
        """Add passages with their vectors, behind those that are there."""
        check_added(passages, vectors, self.dim if self.passages else None)
        if self.passages:
            self.delete([passage.id for passage in passages])
        new = vectors.detach()
        self.vectors = torch.cat([self.vectors, new.to(self.vectors)]) if self.passages else new
        self.passages.extend(passages)
        self._forget_rows()

    def delete(self, ids: Sequence[str]) -> int:
        """Delete passages by their ids; return how many were there."""
        rows = self._rows_by_id()
        gone = {rows[each] for each in ids if each in rows}
        if gone:
            kept = [row for row in range(len(self.passages)) if row not in gone]
            self.passages = [self.passages[row] for row in kept]
            self.vectors = self.vectors[kept]
            self._forget_rows()
        return len(gone)

    def search(
        self, vectors: Float[Tensor, "B dim"], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return the min(k, N) best passages for each vector of a query, best first."""
        if where is not None:
            chosen = self._fulfilling(where)
            some = ExactIndex([self.passages[row] for row in chosen], self.vectors[chosen])
            return some.search(vectors, k)
        check_k(k)

        def find(places: Sequence[int], n: int) -> list[list[Hit]]:
            scores, rows = self.search_rows(vectors[list(places)], n)
            return [
                [Hit(self.passages[row], score) for score, row in zip(*line, strict=True)]
                for line in zip(scores.tolist(), rows.tolist(), strict=True)
            ]

        return best_in_order(find, len(vectors), k)

    def search_rows(
        self, vectors: Float[Tensor, "B dim"], k: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return the K = min(k, N) best scores, fp32, and rows of `passages`.

        Equal scores are in the order in which the passages were added. Both are on the device of
        the index's vectors. Raises as `search` does.
        """
        if vectors.ndim != 2 or (self.dim and vectors.shape[1] != self.dim):
            raise UserError(
                f"queries of shape {tuple(vectors.shape)} don't fit an index of {self.dim} "
                "dimensions: search with the retriever that built the index, or build it again"
            )
        check_k(k)
        queries = vectors.detach().to(self.vectors.device).float()
        scores, rows = top_k(queries, self.vectors, k)
        if scores.isnan().any():
            raise ValueError("a score is NaN: the vector of a query holds NaN")
        return scores, rows

    def text_search(
        self, queries: Sequence[str], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages that share words with each query, best BM25 score first."""
        check_k(k)
        if self._words is None:
            self._words = BM25(self.passages)
        bm25 = self._words
        rows = None if where is None else self._fulfilling(where)
        fulfil = None if rows is None else {self.passages[row].id for row in rows}

        def find(places: Sequence[int], n: int) -> list[list[Hit]]:
            some = [queries[place] for place in places]
            if fulfil is None:
                return bm25.search(some, n)
            found = bm25.search(some, max(n, self.count()))
            return [[hit for hit in hits if hit.passage.id in fulfil][:n] for hits in found]

        return best_in_order(find, len(queries), k)

    def digests(self) -> dict[str, str]:
        """Return each passage's hash, by its id."""
        return {passage.id: digest_of(passage) for passage in self.passages}

    def passages_of(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return those passages that are there, by their ids."""
        rows = self._rows_by_id()
        return {each: self.passages[rows[each]] for each in ids if each in rows}

    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the texts of those passages that are there, by their ids."""
        return {each: passage.text for each, passage in self.passages_of(ids).items()}

    def vectors_of(self, ids: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages by their ids. Raises KeyError for an unknown id."""
        rows = self._rows_by_id()
        return self.vectors[[rows[each] for each in ids]]

    def _rows_by_id(self) -> dict[str, int]:
        if self._rows is None:
            self._rows = {passage.id: row for row, passage in enumerate(self.passages)}
        return self._rows

    def optimise(self, *, in_use: bool) -> None:
        """Every search is exact."""

    def drop(self) -> None:
        """Nothing is kept outside this process."""


def build_index(encoder: Encoder, passages: Sequence[Passage]) -> ExactIndex:
    """Encode passages and return an index in memory that holds them.

    Passages with the same id are encoded and stored once, so that they take one rank in a ranking.

    Raises:
        UserError: no passages.
    """
    distinct = distinct_by_id(passages)
    if not distinct:
        raise UserError("there are no passages to index: the table or the column is empty")
    return ExactIndex(distinct, encoder.encode_passages([passage.text for passage in distinct]))
