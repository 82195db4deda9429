"""Search passages exactly over vectors in memory, and save and load an in-memory index."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dalm import artifacts, file_reading
from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.conditions import Condition
from dalm.retrieval.stored_values import column_types, values_of
from dalm.retrieval.topk import top_k
from dalm.retrieval.where import FIELDS, Columns

FORMAT = 1
DESCRIPTION, PASSAGES = "index.json", "passages.jsonl"
VECTORS, GRAPH = "vectors.safetensors", "graph.usearch"
REMEDY = "build the index again"


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
        return {**FIELDS, **column_types(self.passages)}

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
        """Add passages with their vectors, behind those that are there.

        Raises ValueError if there are more or fewer vectors, or their dimension is another.
        """
        if vectors.ndim != 2 or len(vectors) != len(passages):
            raise ValueError(f"{len(passages)} passages, but vectors {tuple(vectors.shape)}")
        if self.passages and vectors.shape[1] != self.dim:
            raise ValueError(f"vectors of {vectors.shape[1]} dimensions in an index of {self.dim}")
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
        """Return the min(k, N) best passages for each vector of a query, best first.

        Equal scores are in the order in which the passages were added. Raises UserError if the
        dimension is another than the passages', ValueError for k < 1 and for a score that is NaN.
        """
        if where is not None:
            chosen = self._fulfilling(where)
            some = ExactIndex([self.passages[row] for row in chosen], self.vectors[chosen])
            return some.search(vectors, k)
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

    def text_search(
        self, queries: Sequence[str], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages that share words with each query, best BM25 score first."""
        if self._words is None:
            self._words = BM25(self.passages)
        if where is None:
            return self._words.search(queries, k)
        fulfil = {self.passages[row].id for row in self._fulfilling(where)}
        found = self._words.search(queries, max(k, self.count()))
        return [[hit for hit in hits if hit.passage.id in fulfil][:k] for hits in found]

    def _search_rows(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return top_k(queries, self.vectors, k)

    def save_graph(self, file: Path) -> None:
        """Write the graph, where this kind of index has one."""

    def vectors_of(self, ids: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages by their ids. Raises KeyError for an unknown id."""
        rows = self._rows_by_id()
        return self.vectors[[rows[each] for each in ids]]

    def _rows_by_id(self) -> dict[str, int]:
        if self._rows is None:
            self._rows = {passage.id: row for row, passage in enumerate(self.passages)}
        return self._rows


# An index in a folder


def save_index(
    index: ExactIndex, folder: str | os.PathLike[str], fingerprint: str | None = None
) -> None:
    """Write an index to `folder`, whole or not at all; an index that is there is replaced.

    `fingerprint` identifies the retriever that made the vectors; `load_index` compares it.

    Raises:
        UserError: the folder holds something else, or can't be written to.
    """
    target = Path(folder)
    is_index = (target / DESCRIPTION).is_file()
    if target.exists() and not is_index and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{folder} exists and is not an index; choose another folder")
    with artifacts.write_folder(target) as staging:
        save_file({"vectors": index.vectors.contiguous()}, staging / VECTORS)
        with artifacts.write_file(staging / PASSAGES) as lines:
            for passage in index.passages:
                lines.write(json.dumps(passage.to_dict(), ensure_ascii=False) + "\n")
        index.save_graph(staging / GRAPH)
        description = {
            "format": FORMAT,
            "kind": index.kind,
            "count": index.count(),
            "dim": index.dim,
            "fingerprint": fingerprint,
        }
        artifacts.write_json(staging / DESCRIPTION, description)


@dataclass(frozen=True)
class _Description:
    format: int
    kind: str
    count: Annotated[int, 0]
    dim: Annotated[int, 0]
    fingerprint: str | None


def load_index(folder: str | os.PathLike[str], fingerprint: str | None = None) -> ExactIndex:
    """Read an index of either in-memory kind, on the CPU.

    Raises:
        UserError: a file is missing or damaged, counts or dimensions disagree, or `fingerprint` is
            given and is not the one that the index was saved with.
    """
    path = Path(folder)
    try:
        artifacts.verify(path)
        description = file_reading.read_record(path / DESCRIPTION, _Description)
        index = _read(path, description)
    except file_reading.DamagedError as error:
        raise UserError(f"{folder} is not a complete index: {error}; {REMEDY}") from error
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} is not a complete index: {type(error).__name__}: {error}; {REMEDY}"
        ) from error
    made_by = description.fingerprint
    if fingerprint is not None and fingerprint != made_by:
        raise UserError(
            f"the index in {folder} was built by the retriever {made_by!r}, not by "
            f"{fingerprint!r}; use that retriever, or {REMEDY}"
        )
    return index


def _read(folder: Path, description: _Description) -> ExactIndex:
    from dalm.retrieval.hnsw import HnswIndex  # a subclass

    if description.format != FORMAT:
        raise ValueError(f"format {description.format}, but this version reads {FORMAT}")
    passages = [Passage.from_dict(each) for _, each in file_reading.read_jsonl(folder / PASSAGES)]
    vectors = load_file(folder / VECTORS)["vectors"]
    expected = description.count, description.dim
    if len(passages) != expected[0] or tuple(vectors.shape) != expected:
        raise ValueError(
            f"{len(passages)} passages and vectors {tuple(vectors.shape)}, but expected {expected}"
        )
    if description.kind == HnswIndex.kind:
        return HnswIndex.with_graph(passages, vectors, folder / GRAPH)
    if description.kind == ExactIndex.kind:
        return ExactIndex(passages, vectors)
    raise ValueError(f"an index of unknown kind {description.kind!r}")
