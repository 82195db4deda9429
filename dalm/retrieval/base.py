"""Declare what a vector store and a searcher are, list the kinds of store, and search by vectors.

A store takes vectors and gives hits; a searcher takes queries as text and gives hits. `BM25` and
`DenseSearcher` are searchers; the stores are listed in `STORES`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from dalm.errors import UserError
from dalm.plugins import entry_points_of, load_entry_point
from dalm.records import Hit, Passage, distinct_by_id
from dalm.retrieval.conditions import Condition
from dalm.retrieval.where import Columns


class Encoder(Protocol):
    """Turn texts into fp32 vectors on any device, to be compared by their inner product."""

    def encode_queries(self, texts: Sequence[str], /) -> Float[Tensor, "n dim"]:
        """Return the vectors of queries."""
        ...

    def encode_passages(self, texts: Sequence[str], /) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages."""
        ...


class VectorStore(Protocol):
    """Hold passages with their vectors and words, and search them."""

    columns: Columns
    """What a condition may name, with types."""

    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"], /) -> None:
        """Add passages with their vectors; one whose id is there takes that one's place.

        Raises ValueError if there are more or fewer vectors, or their dimension is another.
        """
        ...

    def delete(self, ids: Sequence[str], /) -> int:
        """Delete passages by their ids, for every search at once; return how many were there."""
        ...

    def search(
        self, vectors: Float[Tensor, "B dim"], k: int, where: Condition | None = None, /
    ) -> list[list[Hit]]:
        """Return at most k passages for each vector of a query, best inner product first.

        `where`: only among the passages that fulfil the condition. Raises UserError if the
        dimension is another than the passages', ValueError for k < 1 and for a score that is NaN.
        """
        ...

    def text_search(
        self, queries: Sequence[str], k: int, where: Condition | None = None, /
    ) -> list[list[Hit]]:
        """Return at most k passages that share words with each query, best BM25 score first."""
        ...

    def count(self, where: Condition | None = None, /) -> int:
        """Return the number of passages, of those that fulfil a condition if it is given."""
        ...

    def select(
        self, columns: Sequence[str], where: Condition | None = None, /
    ) -> Iterator[tuple[Any, ...]]:
        """Yield each passage's values of these columns, of those that fulfil a condition."""
        ...


class Searcher(Protocol):
    """Find passages for queries."""

    def search(self, queries: Sequence[str], k: int, /) -> list[list[Hit]]:
        """Return at most k passages for each query, best first."""
        ...


# Kinds of vector store

ENTRY_POINTS = "dalm.vector_stores"
"""Entry points of other packages; each names a `StoreKind`."""


@dataclass(frozen=True, slots=True)
class StoreKind:
    """Describe a kind of vector store."""

    name: str
    label: str
    path: str
    """Where it is made, without arguments and empty: `module:callable`."""
    needs: str | None = None
    """Module that must be installed."""
    extra: str | None = None
    """Extra of this distribution that installs it."""

    def make(self) -> VectorStore:
        """Return an empty store.

        Raises:
            UserError: a package is missing; names what installs it.
        """
        if self.needs is not None and find_spec(self.needs) is None:
            package = f"indomain[{self.extra}]" if self.extra else self.needs
            raise UserError(
                f'the {self.name} index needs {self.needs}: pip install "{package}", or choose the '
                "exact index"
            )
        module, _, name = self.path.partition(":")
        make: Callable[[], VectorStore] = getattr(import_module(module), name)
        return make()


STORES = {
    kind.name: kind
    for kind in (
        StoreKind("exact", "exact search in memory", "dalm.retrieval.exact:ExactIndex"),
        StoreKind(
            "hnsw",
            "approximate search in memory by a graph (HNSW)",
            "dalm.retrieval.hnsw:HnswIndex",
            needs="usearch",
            extra="hnsw",
        ),
    )
}


def store_kind(name: str) -> StoreKind:
    """Return the kind of vector store called `name`, of `STORES` or of another package.

    Raises:
        UserError: there is none; names those that there are.
    """
    if name in STORES:
        return STORES[name]
    others = entry_points_of(ENTRY_POINTS)
    if name in others:
        kind: StoreKind = load_entry_point(others[name])
        return kind
    known = ", ".join(map(repr, [*STORES, *others]))
    raise UserError(f"--index {name}: no such vector store; choose one of {known}")


# Searching by vectors


def build_store(
    kind: str, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"]
) -> VectorStore:
    """Return a vector store of the kind called `kind` that holds the passages.

    Raises:
        UserError: no such kind, or a package is missing.
    """
    store = store_kind(kind).make()
    store.add(passages, vectors)
    return store


def build_index(encoder: Encoder, passages: Sequence[Passage], kind: str = "exact") -> VectorStore:
    """Encode passages and return a vector store of the kind called `kind` that holds them.

    Passages with the same id are encoded and stored once, so that they take one rank in a ranking.

    Raises:
        UserError: no passages, no such kind, or a package is missing.
    """
    distinct = distinct_by_id(passages)
    if not distinct:
        raise UserError("there are no passages to index: the table or the column is empty")
    store = store_kind(kind).make()  # a missing package is refused before hours of encoding
    vectors = encoder.encode_passages([passage.text for passage in distinct])
    store.add(distinct, vectors)
    return store


class DenseSearcher:
    """Find passages in a vector store by the vectors of queries."""

    def __init__(self, encoder: Encoder, store: VectorStore) -> None:
        self.encoder = encoder
        self.store = store

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return each query's min(k, N) best passages, best first; equal queries are encoded once.

        Raises as the store's `search` does.
        """
        if not queries:
            return []
        distinct = list(dict.fromkeys(queries))
        hits = self.store.search(self.encoder.encode_queries(distinct), k)
        found = dict(zip(distinct, hits, strict=True))
        return [list(found[query]) for query in queries]
