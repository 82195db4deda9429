"""Declare what a vector store and a searcher are, and search by vectors.

A store takes vectors and gives hits; a searcher takes queries as text and gives hits. `BM25` and
`DenseSearcher` are searchers; `dalm.retrieval.store_kinds` lists the stores.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.conditions import Condition
from dalm.retrieval.where import Columns

REBUILD = "build it again: dalm index ... --rebuild --retriever-name-or-path RETRIEVER"
"""What to do about a damaged index."""
EXACT_UP_TO = 2e8
"""Passages times dimensions up to which every vector is compared."""
RECALL = 0.98
"""Recall@10 of exact search that an approximate one has to reach."""
MOST_TIES = 10_000
"""Passages of equal score among which those with the first ids are found for certain."""


class Encoder(Protocol):
    """Turn texts into fp32 vectors on any device, to be compared by their inner product."""

    def encode_queries(self, texts: Sequence[str], /) -> Float[Tensor, "n dim"]:
        """Return the vectors of queries."""
        ...

    def encode_passages(self, texts: Sequence[str], /) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages."""
        ...


class Found(Protocol):
    """Be a passage that a search has found, as `Hit` is; it may be made only when it is read."""

    @property
    def id(self) -> str:
        """The passage's id."""
        ...

    @property
    def score(self) -> float:
        """The score, higher is better."""
        ...

    @property
    def passage(self) -> Passage:
        """The passage itself."""
        ...


F = TypeVar("F", bound=Found)


@dataclass(slots=True)
class Ranked:
    """A passage that was found, with its scores and ranks by stage.

    The passage itself is made, as a hit, when it is returned.
    """

    id: str
    score: float
    scores: dict[str, float]
    ranks: dict[str, int]
    found: Found

    @property
    def passage(self) -> Passage:
        """The passage itself."""
        return self.found.passage

    @property
    def hit(self) -> Hit:
        """The passage, its scores and its ranks."""
        return Hit(self.passage, self.score, self.scores, self.ranks)


class VectorStore(Protocol):
    """Hold passages with their vectors and words, and search them.

    Methods raise UserError, in one line with the remedy, for what a user can cause: a server that
    is down, a wrong password, a full disk, damage.
    """

    @property
    def columns(self) -> Columns:
        """What a condition may name, with types: those of every passage, and those added."""
        ...

    @property
    def keeps_order(self) -> bool:
        """Whether `select` yields passages in the order in which they were added."""
        ...

    @property
    def tuning(self) -> Mapping[str, int]:
        """How approximate search reads the store, as `optimise` found it; empty: it is exact."""
        ...

    # Passages

    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"], /) -> None:
        """Add passages with their vectors; one whose id is there takes that one's place.

        All or none are added. Raises ValueError if there are more or fewer vectors, or their
        dimension is another, or one holds NaN.
        """
        ...

    def delete(self, ids: Sequence[str], /) -> int:
        """Delete passages by their ids, for every search at once; return how many were there."""
        ...

    def count(self, where: Condition | None = None, /) -> int:
        """Return the number of passages, of those that fulfil a condition if it is given."""
        ...

    def digests(self) -> dict[str, str]:
        """Return each passage's `digest_of`, by its id."""
        ...

    def passages_of(self, ids: Sequence[str], /) -> dict[str, Passage]:
        """Return those passages that are there, by their ids."""
        ...

    def texts_of(self, ids: Sequence[str], /) -> dict[str, str]:
        """Return the texts of those passages that are there, by their ids."""
        ...

    def vectors_of(self, ids: Sequence[str], /) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages by their ids. Raises KeyError for an unknown id."""
        ...

    # Search

    def search(
        self, vectors: Float[Tensor, "B dim"], k: int, where: Condition | None = None, /
    ) -> list[list[Hit]]:
        """Return at most k passages for each vector of a query, best inner product first.

        Equal scores are in the order of the ids. `where`: only among the passages that fulfil the
        condition. Raises UserError if the dimension is another than the passages', ValueError for
        k < 1 and for a query that holds NaN.
        """
        ...

    def text_search(
        self, queries: Sequence[str], k: int, where: Condition | None = None, /
    ) -> list[list[Hit]]:
        """Return at most k passages that share words with each query, best BM25 score first.

        Words are those of `dalm.analyser.terms`; equal scores are in the order of the ids.
        """
        ...

    # Upkeep

    def add_columns(self, columns: Mapping[str, type], /) -> None:
        """Add columns for conditions; the passages that are there have no values in them."""
        ...

    def optimise(self, *, in_use: bool) -> float | None:
        """Bring indices up to date; return the recall@10 of approximate search.

        `in_use`: searches may be running. None: search is exact. What `tuning` then holds is given
        to the store when it is opened again.
        """
        ...

    def drop(self) -> None:
        """Delete all that the store keeps outside its folder: its tables on a server."""
        ...

    def select(
        self, columns: Sequence[str], where: Condition | None = None, /
    ) -> Iterator[tuple[Any, ...]]:
        """Yield each passage's values of these columns, of those that fulfil a condition."""
        ...


@runtime_checkable
class SearchesBoth(Protocol):
    """Be a vector store that searches by vectors and by words at once, for hybrid search."""

    def search_both(
        self,
        vectors: Float[Tensor, "B dim"],
        queries: Sequence[str],
        k: int,
        where: Condition | None = None,
        /,
    ) -> tuple[Sequence[Sequence[Found]], Sequence[Sequence[Found]]]:
        """Return what `search` and `text_search` find; passages are made when they are read."""
        ...


class Searcher(Protocol):
    """Find passages for queries."""

    def search(self, queries: Sequence[str], k: int, /) -> list[list[Hit]]:
        """Return at most k passages for each query, best first."""
        ...


# Checks and order, the same in every store


def check_added(
    passages: Sequence[Passage], vectors: Float[Tensor, "n dim"], dim: int | None
) -> None:
    """Refuse vectors that don't belong to the passages, of another dimension, or with NaN.

    Raises:
        ValueError: says which.
    """
    if vectors.ndim != 2 or len(vectors) != len(passages):
        raise ValueError(f"{len(passages)} passages, but vectors {tuple(vectors.shape)}")
    if dim is not None and vectors.shape[1] != dim:
        raise ValueError(f"vectors of {vectors.shape[1]} dimensions in an index of {dim}")
    if not vectors.isfinite().all():
        raise ValueError("the vector of a passage holds NaN or an infinite number")


def check_searched(vectors: Float[Tensor, "B dim"], dim: int) -> None:
    """Refuse vectors of queries of another dimension, or with NaN.

    Raises:
        UserError: another dimension.
        ValueError: NaN.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise UserError(
            f"queries of shape {tuple(vectors.shape)} don't fit an index of {dim} dimensions: "
            "search with the retriever that built the index, or build it again"
        )
    if not vectors.isfinite().all():
        raise ValueError("a score is NaN: the vector of a query holds NaN")


def check_k(k: int) -> None:
    """Refuse a number of hits below 1, by ValueError."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")


def best_in_order(
    find: Callable[[Sequence[int], int], Sequence[Sequence[F]]],
    queries: int,
    k: int,
    *,
    spare: int = 1,
) -> list[list[F]]:
    """Return the k best hits of each query, best first; equal scores are in the order of the ids.

    `find(places, n)` finds the n best for some of the queries, of equal scores any. It is asked for
    more where the k-th score may have further passages, up to `MOST_TIES`; at first for `spare`.
    """
    best: list[list[F]] = [[] for _ in range(queries)]
    wanted, places = k + spare, list(range(queries))
    while places:
        for place, hits in zip(places, find(places, wanted), strict=True):
            best[place] = sorted(hits, key=lambda hit: (-hit.score, hit.id))
        places = [
            place
            for place in places
            if len(best[place]) == wanted and best[place][k - 1].score == best[place][-1].score
        ]
        if wanted > k + MOST_TIES:
            break
        wanted = k + 10 * (wanted - k)
    return [hits[:k] for hits in best]


def ids_of(hits: Iterable[Found]) -> set[str]:
    """Return the ids of the passages found."""
    return {hit.id for hit in hits}


def like_questions(vectors: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """Return queries to tune an approximate search by: sums of three passages' vectors.

    They are about as far from the passages as questions are. By the passages' own vectors, which
    are nearest to themselves, a search that found 0.91 of what questions ask for reached 1.00.
    """
    third = len(vectors) // 3
    return vectors + vectors.roll(third, 0) + vectors.roll(2 * third, 0)


def mean_recall(right: Sequence[Sequence[Found]], found: Sequence[Sequence[Found]]) -> float:
    """Return the share of the right hits that were found, the mean over queries."""
    pairs = ((ids_of(a), ids_of(b)) for a, b in zip(right, found, strict=True))
    return fmean(len(a & b) / len(a) for a, b in pairs)


# Searching by vectors


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
