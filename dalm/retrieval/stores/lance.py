"""Keep passages, vectors and words in a LanceDB table: a folder, with nothing to start.

LanceDB finds by vectors and, in an inverted index with BM25 weights, by words. The words are split
here, not by LanceDB, so that text search is the same in all stores.
"""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import wraps
from pathlib import Path
from traceback import walk_tb
from typing import Any, Concatenate, ParamSpec, TypeVar

import lancedb
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from dalm.analyser import terms
from dalm.artifacts import full_disk
from dalm.errors import UserError
from dalm.file_reading import DamagedError
from dalm.records import Hit, Passage
from dalm.retrieval.base import (
    EXACT_UP_TO,
    REBUILD,
    best_in_order,
    check_added,
    check_k,
    check_searched,
)
from dalm.retrieval.conditions import Condition, Membership
from dalm.retrieval.store_kinds import FP32, StorePlace
from dalm.retrieval.stored_values import digest_of, values_of
from dalm.retrieval.stores.lance_rows import SHOWN, Row, as_hits, rows_of
from dalm.retrieval.stores.lance_vectors import LanceVectors, check_codes
from dalm.retrieval.stores.lance_words import LanceWords
from dalm.retrieval.where import FIELDS, Columns

TABLE = "passages"
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_KEEP_VERSIONS = timedelta(minutes=10)
"""Versions of the table that searches may still be reading."""
P = ParamSpec("P")
T = TypeVar("T")


def _explained(
    method: Callable[Concatenate["LanceStore", P], T],
) -> Callable[Concatenate["LanceStore", P], T]:
    """Have a method name its store in one line where LanceDB fails: damage, rights, a full disk."""

    @wraps(method)
    def explained(store: "LanceStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(store, *args, **kwargs)
        except Exception as error:
            if not _is_of_lancedb(error):
                raise
            if reason := full_disk(error):
                raise UserError(
                    f"{store.folder} can't be written: {reason}; free some space, and run the same "
                    "command again"
                ) from error
            reason = re.sub(r", /\S+\.rs:\d+:\d+", "", str(error)).partition("\n")[0]
            raise DamagedError(
                f"the index in {store.folder} can't be used ({reason:.200}); if it is damaged, "
                f"{REBUILD}"
            ) from error

    return explained


def _is_of_lancedb(error: Exception) -> bool:
    modules = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    return any(name.partition(".")[0] == "lancedb" for name in modules)


class LanceStore:
    """A vector store in a folder; `columns` are the types of further columns, for conditions.

    `vectors` as `StorePlace.vectors`. Methods raise UserError if the folder is damaged or its disk
    is full. A new folder is made, unless `create` is false.
    """

    keeps_order = True

    @_explained
    def __init__(
        self,
        folder: Path,
        dim: int,
        columns: Mapping[str, type],
        *,
        vectors: str = FP32,
        create: bool = True,
    ) -> None:
        check_codes(vectors, dim)
        self.folder = folder
        self.extra = dict(columns)
        self.columns: Columns = {**FIELDS, **self.extra}
        self.dim = dim
        database = lancedb.connect(str(folder), read_consistency_interval=timedelta(0))
        if not create or TABLE in database.list_tables().tables:
            self.table = database.open_table(TABLE)
        else:
            self.table = database.create_table(TABLE, schema=self._schema())
        self._vectors = LanceVectors(self.table, dim, vectors)
        self._words = LanceWords(self.table)

    @classmethod
    def open(cls, place: StorePlace) -> "LanceStore":
        """Open the store in a generation's folder, or make it."""
        vectors, create = place.vectors, place.create
        store = cls(place.folder, place.dim, place.columns, vectors=vectors, create=create)
        store._vectors.tuning = dict(place.tuning)
        return store

    @property
    def tuning(self) -> dict[str, int]:
        """How approximate search reads the store; empty: it is exact."""
        return self._vectors.tuning

    def _schema(self) -> pa.Schema:
        fields = [(name, _TYPES[kind]) for name, kind in FIELDS.items()]
        fields += [(self._column(name), _TYPES[kind]) for name, kind in self.extra.items()]
        fields += [(name, pa.string()) for name in ("record", "digest", "words")]
        return pa.schema([*fields, ("vector", pa.list_(pa.float32(), self.dim))])

    def _column(self, name: str) -> str:
        """Return a column's name in the table: a user's may hold anything."""
        return name if name in FIELDS else f"extra_{list(self.extra).index(name)}"

    @_explained
    def add_columns(self, columns: Mapping[str, type]) -> None:
        """Add columns for conditions; the passages that are there have no values in them."""
        self.extra |= {name: kind for name, kind in columns.items() if name not in self.extra}
        self.columns = {**FIELDS, **self.extra}
        there = set(self.table.schema.names)
        missing = [field for field in self._schema() if field.name not in there]
        if missing:
            self.table.add_columns(pa.schema(missing))

    def _where(self, condition: Condition | None) -> str | None:
        return None if condition is None else condition.sql(self._column)

    # Passages

    @_explained
    def count(self, where: Condition | None = None) -> int:
        """Return the number of passages, of those that fulfil a condition if it is given."""
        return int(self.table.count_rows(self._where(where)))

    @_explained
    def digests(self) -> dict[str, str]:
        """Return a hash of each passage's text and provenance, by its id."""
        found = self.table.search().select(["id", "digest"]).to_arrow()
        return dict(zip(found["id"].to_pylist(), found["digest"].to_pylist(), strict=True))

    @_explained
    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"]) -> None:
        """Add passages with their vectors; one whose id is there takes that one's place."""
        check_added(passages, vectors, self.dim)
        if not passages:
            return
        merge = self.table.merge_insert("id").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(self._rows(passages, vectors))

    def _rows(self, passages: Sequence[Passage], vectors: Tensor) -> pa.Table:
        values = [values_of(passage, self.columns) for passage in passages]
        columns: dict[str, Any] = {
            self._column(name): [each.get(name) for each in values] for name in self.columns
        }
        columns["record"] = [
            json.dumps(passage.provenance(), ensure_ascii=False) for passage in passages
        ]
        columns["digest"] = [digest_of(passage) for passage in passages]
        columns["words"] = [" ".join(terms(passage.text)) for passage in passages]
        flat = pa.array(vectors.float().cpu().contiguous().view(-1).numpy())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, self.dim)
        return pa.table(columns, schema=self._schema())

    @_explained
    def delete(self, ids: Sequence[str]) -> int:
        """Delete passages by their ids, for every search at once; return how many were there."""
        before = self.count()
        for start in range(0, len(ids), 1000):
            self.table.delete(_listed(ids[start : start + 1000]))
        return before - self.count()

    @_explained
    def passages_of(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return those passages that are there, by their ids."""
        if not ids:
            return {}
        found = self.table.search().where(_listed(ids)).select(list(SHOWN)).to_arrow()
        return {row.id: row.passage for row in rows_of(found, [0.0] * len(found))}

    @_explained
    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the texts of those passages that are there, by their ids."""
        if not ids:
            return {}
        found = self.table.search().where(_listed(ids)).select(["id", "text"]).to_arrow()
        return dict(zip(found["id"].to_pylist(), found["text"].to_pylist(), strict=True))

    @_explained
    def vectors_of(self, ids: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages by their ids. Raises KeyError for an unknown id."""
        if not ids:
            return torch.empty(0, self.dim)
        found = self.table.search().where(_listed(ids)).select(["id", "vector"]).to_arrow()
        flat = found["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        rows = torch.from_numpy(flat.copy()).view(-1, self.dim)
        places = {each: place for place, each in enumerate(found["id"].to_pylist())}
        return rows[[places[each] for each in ids]]

    def select(
        self, columns: Sequence[str], where: Condition | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield each passage's values of these columns, of those that fulfil a condition."""
        found = self._selected(list(map(self._column, columns)), where)
        for batch in found.to_batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    @_explained
    def _selected(self, columns: list[str], where: Condition | None) -> pa.Table:
        search = self.table.search()
        if (condition := self._where(where)) is not None:
            search = search.where(condition)
        return search.select(columns).to_arrow()

    # Search

    @_explained
    def search(
        self, vectors: Float[Tensor, "B dim"], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages for each vector of a query, best inner product first.

        Every vector is compared where that are few enough; else an index of the table chooses, as
        it does at any number of passages if there are codes of the vectors.
        """
        return as_hits(self._by_vectors(vectors, k, where))

    @_explained
    def text_search(
        self, queries: Sequence[str], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages that share words with each query, best BM25 score first."""
        return as_hits(self._by_words(queries, k, where))

    @_explained
    def search_both(
        self,
        vectors: Float[Tensor, "B dim"],
        queries: Sequence[str],
        k: int,
        where: Condition | None = None,
    ) -> tuple[list[list[Row]], list[list[Row]]]:
        """Return what `search` and `text_search` find, in two threads: LanceDB frees the GIL."""
        with ThreadPoolExecutor(1) as thread:
            text = thread.submit(self._by_words, queries, k, where)
            return self._by_vectors(vectors, k, where), text.result()

    def _by_vectors(self, vectors: Tensor, k: int, where: Condition | None) -> list[list[Row]]:
        check_searched(vectors, self.dim)
        check_k(k)
        exact = not self.tuning or self._is_few(where)
        condition = self._where(where)

        def find(places: Sequence[int], n: int) -> list[list[Row]]:
            return self._vectors.search(vectors[list(places)], n, condition, exact=exact)

        return best_in_order(find, len(vectors), k)

    def _is_few(self, where: Condition | None) -> bool:
        return where is not None and self.count(where) * self.dim <= EXACT_UP_TO

    def _by_words(self, queries: Sequence[str], k: int, where: Condition | None) -> list[list[Row]]:
        check_k(k)
        condition = self._where(where)
        texts = [" ".join(terms(query)) for query in queries]

        def find(places: Sequence[int], n: int) -> list[list[Row]]:
            return [self._words.search(texts[place], n, condition) for place in places]

        # Short passages often have equal scores, and a second search costs as much as the first.
        return best_in_order(find, len(queries), k, spare=10 ** (len(str(k)) - 1))

    # Upkeep

    @_explained
    def optimise(self, *, in_use: bool) -> float | None:
        """Bring the indices up to date and drop old versions; return the recall of an ANN index.

        `in_use`: searches may be reading older versions of the table, which are kept for a while.
        None where search is exact: with few vectors of which there are no codes, and where no
        number of partitions reaches `RECALL`.
        """
        self._words.build()
        number, coded = self.count(), self._vectors.codes != FP32
        approximate = number * self.dim > EXACT_UP_TO or (coded and number > 0)
        if approximate:
            self._vectors.build()
        with warnings.catch_warnings():  # of readers, of which an unfinished index has none
            warnings.simplefilter("ignore", UserWarning)
            keep = _KEEP_VERSIONS if in_use else timedelta(0)
            # No other process writes to an index that is claimed: files of no version are those
            # of a process that was killed.
            self.table.optimize(cleanup_older_than=keep, delete_unverified=True)
        self._words.forget_deleted()
        self._vectors.tuning = {}
        return self._vectors.tune() if approximate else None

    def drop(self) -> None:
        """Nothing is kept outside the folder."""


def _listed(ids: Sequence[str]) -> str:
    return Membership("id", tuple(ids)).sql(str)
