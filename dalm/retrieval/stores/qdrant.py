"""Keep passages, vectors and words in Qdrant: on a server, or in a folder (its local mode).

A generation is a collection. A passage is a point: its id a UUID made from the passage's, a dense
vector, a sparse one of its words, and a payload with its columns and the counts of its words.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import NAMESPACE_OID, uuid5

import torch
from jaxtyping import Float
from qdrant_client import models
from torch import Tensor

from dalm.file_reading import DamagedError
from dalm.records import Hit, Passage
from dalm.retrieval.base import (
    EXACT_UP_TO,
    MOST_TIES,
    REBUILD,
    RECALL,
    check_added,
    check_k,
    check_searched,
    mean_recall,
)
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.conditions import Condition
from dalm.retrieval.store_kinds import StorePlace
from dalm.retrieval.stored_values import digest_of, values_of
from dalm.retrieval.stores.qdrant_connection import connection_to, is_of_qdrant, refusal
from dalm.retrieval.stores.qdrant_filters import columns_of, split
from dalm.retrieval.stores.qdrant_words import (
    ROUNDING,
    clean,
    counted,
    idf,
    score,
    sparse,
    weight,
)
from dalm.retrieval.where import FIELDS, Columns

logger = logging.getLogger(__name__)

DENSE, WORDS = "dense", "words"
_INDEXED: dict[type, models.PayloadSchemaType] = {
    str: models.PayloadSchemaType.KEYWORD,
    int: models.PayloadSchemaType.INTEGER,
    float: models.PayloadSchemaType.FLOAT,
    bool: models.PayloadSchemaType.BOOL,
}
_SHOWN = ["id", "text", "title", "record"]
_WIDTHS = (64, 128, 256, 512, 1024, 2048)
"""Candidates (hnsw_ef) that a search of the graph keeps."""
_SAMPLE, _PAGE = 100, 10_000
_MOST_BYTES = 8 << 20
"""Of a request, about; a server refuses 32 MB."""
_MOST_IN_FOLDER = 20_000
"""Passages up to which Qdrant recommends a folder."""
P = ParamSpec("P")
T = TypeVar("T")
Scored = list[tuple[float, str]]
"""Scores and ids of passages."""


def _explained(
    method: Callable[Concatenate["QdrantStore", P], T],
) -> Callable[Concatenate["QdrantStore", P], T]:
    """Say in one line what Qdrant refuses; let one thread use a folder at a time."""

    @wraps(method)
    def explained(store: "QdrantStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with store.connection.lock:
                return method(store, *args, **kwargs)
        except Exception as error:
            if not is_of_qdrant(error):
                raise
            raise refusal(store.connection.url, error) from error

    return explained


class QdrantStore:
    """A vector store in a collection of Qdrant."""

    keeps_order = False

    def __init__(self, place: StorePlace) -> None:
        assert place.url is not None
        self.table, self.dim = place.table, place.dim
        self.extra = dict(place.columns)
        self.tuning: dict[str, int] = dict(place.tuning)
        self._reference: float | None = None
        try:
            self.connection = connection_to(place.url, create=place.create)
            self.client = self.connection.client
            with self.connection.lock:
                self._open(create=place.create)
        except Exception as error:
            if not (is_of_qdrant(error) or isinstance(error, OSError)):
                raise
            raise refusal(place.url, error) from error

    def _open(self, *, create: bool) -> None:
        there = self.client.collection_exists(self.table)
        if not there and not create:
            place = self.connection.url
            raise DamagedError(f"the collection {self.table} is missing in {place}; {REBUILD}")
        if not there:
            self.client.create_collection(
                self.table,
                vectors_config={
                    DENSE: models.VectorParams(size=self.dim, distance=models.Distance.DOT)
                },
                sparse_vectors_config={WORDS: models.SparseVectorParams()},
            )
        if not self.connection.is_server:
            self.connection.quicken(self.table)
        if create:
            self._index({name: kind for name, kind in self.columns.items() if name != "text"})
            self._index({"words": str, "length": int})

    def _index(self, columns: Mapping[str, type]) -> None:
        if self.connection.is_server:  # a folder's client has no indices
            for name, kind in columns.items():
                key = name if name in ("words", "length") else self._key(name)
                self.client.create_payload_index(self.table, key, _INDEXED[kind], wait=True)

    # Columns

    @property
    def columns(self) -> Columns:
        """What a condition may name, with types."""
        return {**FIELDS, **self.extra}

    @_explained
    def add_columns(self, columns: Mapping[str, type]) -> None:
        """Add columns for conditions; the passages that are there have no values in them."""
        added = {name: kind for name, kind in columns.items() if name not in self.columns}
        self.extra |= added
        self._index(added)

    def _key(self, name: str) -> str:
        """Return a column's key in a point: a user's name may hold anything."""
        return name if name in FIELDS else f"extra_{list(self.extra).index(name)}"

    def _values(self, payload: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        return {name: payload.get(self._key(name)) for name in names}

    # Passages

    @_explained
    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"]) -> None:
        """Add passages with their vectors; one whose id is there takes that one's place.

        A server applies them one by one, and after a failure some may be there.
        """
        check_added(passages, vectors, self.dim)
        if not passages:
            return
        counts = [counted(passage.text) for passage in passages]
        reference = self._reference_length()
        if reference is None:
            mean = sum(found.total() for found in counts) / len(counts)
            reference = self._reference = max(1.0, float(math.ceil(mean)))
            self.client.update_collection(self.table, metadata={"reference": reference})
        self.connection.words.pop(self.table, None)
        block: list[models.PointStruct] = []
        size = 0
        numbers = vectors.detach().float().cpu()
        for passage, vector, found in zip(passages, numbers, counts, strict=True):
            block.append(self._point(passage, vector.tolist(), found, reference))
            size += 20 * self.dim + 6 * len(passage.text) + 80 * len(found) + 1000
            if size > _MOST_BYTES:
                self.client.upsert(self.table, block, wait=True)
                block, size = [], 0
        if block:
            self.client.upsert(self.table, block, wait=True)

    def _point(
        self, passage: Passage, vector: list[float], counts: Mapping[str, int], reference: float
    ) -> models.PointStruct:
        length = sum(counts.values())
        payload: dict[str, Any] = {
            self._key(name): value
            for name, value in values_of(passage, self.columns).items()
            if value is not None and not (isinstance(value, float) and not math.isfinite(value))
        }
        payload |= {
            "record": json.dumps(passage.provenance()),
            "digest": digest_of(passage),
            "length": length,
        }
        payload |= {"words": list(counts), "counts": list(counts.values())}
        weights = {word: weight(times, length, reference) for word, times in counts.items()}
        found: dict[str, Any] = {DENSE: vector}
        if weights:
            found[WORDS] = sparse(weights)
        return models.PointStruct(id=_point_id(passage.id), vector=found, payload=payload)

    def _reference_length(self) -> float | None:
        """Return the length that words' weights in the collection are by; None: it is empty."""
        if self._reference is None:
            kept = self.client.get_collection(self.table).config.metadata
            self._reference = (kept or {}).get("reference")
        return self._reference

    @_explained
    def delete(self, ids: Sequence[str]) -> int:
        """Delete passages by their ids, for every search at once; return how many were there."""
        there = [point.id for point in self._retrieved(ids, ["id"])]
        self.connection.words.pop(self.table, None)
        for start in range(0, len(there), _PAGE):
            self.client.delete(self.table, there[start : start + _PAGE], wait=True)
        return len(there)

    def _retrieved(
        self, ids: Sequence[str], keys: list[str], vectors: list[str] | bool = False
    ) -> Iterator[models.Record]:
        """Yield the points of those passages that are there."""
        wanted = list(dict.fromkeys(map(_point_id, ids)))
        for start in range(0, len(wanted), 1000):
            some = wanted[start : start + 1000]
            yield from self.client.retrieve(
                self.table, some, with_payload=keys, with_vectors=vectors
            )

    def _payloads(
        self, keys: Sequence[str], where: Condition | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield keys of the points that fulfil a condition."""
        said, rest = split(where, self._key)
        names = sorted(columns_of(rest))
        wanted = sorted({*keys, *map(self._key, names)})
        # A folder sorts all its points for each page.
        page = _PAGE if self.connection.is_server else max(1, self._count(None))
        after: Any = None
        while True:
            found, after = self.client.scroll(
                self.table, said, limit=page, offset=after, with_payload=wanted
            )
            for point in found:
                payload = point.payload or {}
                if rest is None or rest.holds(self._values(payload, names)):
                    yield payload
            if after is None:
                return

    @_explained
    def count(self, where: Condition | None = None) -> int:
        """Return the number of passages, of those that fulfil a condition if it is given."""
        said, rest = split(where, self._key)
        return self._count(said) if rest is None else sum(1 for _ in self._payloads([], where))

    def _count(self, said: models.Filter | None) -> int:
        return self.client.count(self.table, said, exact=True).count

    @_explained
    def digests(self) -> dict[str, str]:
        """Return a hash of each passage's text and provenance, by its id."""
        return {found["id"]: found["digest"] for found in self._payloads(["id", "digest"])}

    def select(
        self, columns: Sequence[str], where: Condition | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield each passage's values of these columns, of those that fulfil a condition."""
        yield from self._selected(columns, where)

    @_explained
    def _selected(self, columns: Sequence[str], where: Condition | None) -> list[tuple[Any, ...]]:
        found = self._payloads([self._key(name) for name in columns], where)
        return [tuple(self._values(payload, columns).values()) for payload in found]

    @_explained
    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the texts of those passages that are there, by their ids."""
        return {each: passage.text for each, passage in self.passages_of(ids).items()}

    @_explained
    def passages_of(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return those passages that are there, by their ids."""
        found = (_passage(point.payload or {}) for point in self._retrieved(ids, _SHOWN))
        return {passage.id: passage for passage in found}

    @_explained
    def vectors_of(self, ids: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages by their ids. Raises KeyError for an unknown id."""
        points = self._retrieved(ids, ["id"], [DENSE])
        found = {(point.payload or {})["id"]: _dense(point) for point in points}
        rows = [found[each] for each in ids]
        return torch.tensor(rows) if rows else torch.empty(0, self.dim)

    # Search

    @_explained
    def search(
        self, vectors: Float[Tensor, "B dim"], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages for each vector of a query, best inner product first.

        Every vector is compared where that are few enough; else the graph chooses.
        """
        check_searched(vectors, self.dim)
        check_k(k)
        width = None if self._is_few(where) else self.tuning.get("width")
        return self._hits(
            [self._near(query, k, where, width) for query in vectors.detach().float().tolist()]
        )

    def _is_few(self, where: Condition | None) -> bool:
        """Tell whether to compare every vector that a condition leaves."""
        if not self.tuning or where is None:
            return not self.tuning
        said, rest = split(where, self._key)
        return rest is not None or self._count(said) * self.dim <= EXACT_UP_TO

    def _near(
        self, query: list[float], k: int, where: Condition | None, width: int | None
    ) -> Scored:
        params = None
        if self.connection.is_server:  # a folder's client always compares every vector
            params = models.SearchParams(exact=width is None, hnsw_ef=width and max(width, k))
        return self._best(DENSE, query, k, where, lambda point: float(point.score), params=params)

    def _best(
        self,
        using: str,
        query: Any,
        k: int,
        where: Condition | None,
        score_of: Callable[[models.ScoredPoint], float],
        *,
        slack: float = 1.0,
        params: models.SearchParams | None = None,
    ) -> Scored:
        """Return the k best passages with their scores; equal scores are in the order of the ids.

        Qdrant is asked for more until no point beyond those it gave can be among them: a point's
        score is at most `slack` times as high as Qdrant has it. Of more than `MOST_TIES` passages
        with equal scores not all are compared by their ids.
        """
        said, rest = split(where, self._key)
        names = sorted(columns_of(rest))
        keys = ["id", *map(self._key, names), *(["words", "counts", "length"] * (using == WORDS))]
        wanted = k + 1
        while True:
            points = self.client.query_points(
                self.table,
                query=query,
                using=using,
                query_filter=said,
                limit=wanted,
                with_payload=keys,
                search_params=params,
            ).points
            found = []
            for point in points:
                payload = point.payload or {}
                if rest is None or rest.holds(self._values(payload, names)):
                    found.append((score_of(point), payload["id"]))
            found.sort(key=lambda each: (-each[0], each[1]))
            if len(points) < wanted:
                return found[:k]
            beyond, kth = points[-1].score * slack, found[k - 1][0] if len(found) >= k else None
            if kth is not None and (kth > beyond or (kth == beyond and wanted > k + MOST_TIES)):
                return found[:k]
            wanted = k + 10 * (wanted - k)

    def _hits(self, found: Sequence[Scored]) -> list[list[Hit]]:
        """Return what was found with its passages; one deleted meanwhile is left out."""
        passages = self.passages_of([each for scored in found for _, each in scored])
        return [
            [Hit(passages[each], value) for value, each in scored if each in passages]
            for scored in found
        ]

    @_explained
    def text_search(
        self, queries: Sequence[str], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages that share words with each query, best BM25 score first."""
        check_k(k)
        if not self.connection.is_server:
            return self._hits(self._matching_in_folder(queries, k, where))
        words = [counted(query) for query in queries]
        reference = self._reference_length()
        if reference is None:
            return [[] for _ in queries]
        passages, total = self._totals()
        mean = max(total / max(passages, 1), 1e-9)
        having = {word: self._having(word) for word in set().union(*words)}
        weights = [
            {word: times * idf(passages, n) for word, times in found.items() if (n := having[word])}
            for found in words
        ]
        return self._hits([self._matching(each, k, where, mean, reference) for each in weights])

    def _matching(
        self,
        weights: Mapping[str, float],
        k: int,
        where: Condition | None,
        mean: float,
        reference: float,
    ) -> Scored:
        if not weights:
            return []
        found = self._best(
            WORDS,
            sparse(weights),
            k,
            where,
            lambda point: score(point.payload or {}, weights, mean),
            slack=max(1.0, mean / reference) * ROUNDING,
        )
        return [(value, each) for value, each in found if value > 0]

    def _matching_in_folder(
        self, queries: Sequence[str], k: int, where: Condition | None
    ) -> list[Scored]:
        """Search the words in memory: a folder's client takes seconds for a sparse vector."""
        if (bm25 := self.connection.words.get(self.table)) is None:
            found = [Passage(each["id"], each["text"]) for each in self._payloads(["id", "text"])]
            bm25 = BM25(sorted(found, key=lambda passage: passage.id))
            self.connection.words[self.table] = bm25
        if where is None:
            hits = bm25.search(queries, k)
        else:
            right = {each["id"] for each in self._payloads(["id"], where)}
            every = bm25.search(queries, max(k, len(bm25.passages)))
            hits = [[hit for hit in each if hit.passage.id in right][:k] for each in every]
        return [[(hit.score, hit.passage.id) for hit in each] for each in hits]

    def _totals(self) -> tuple[int, int]:
        """Return the number of passages, and of words in them."""
        lengths = self.client.facet(self.table, "length", limit=1_000_000, exact=True).hits
        return self._count(None), sum(int(each.value) * each.count for each in lengths)

    def _having(self, word: str) -> int:
        """Return the number of passages with a word."""
        match = models.FieldCondition(key="words", match=models.MatchValue(value=word))
        return self._count(models.Filter(must=[match]))

    # Upkeep

    @_explained
    def optimise(self, *, in_use: bool) -> float | None:  # noqa: ARG002 - of the protocol
        """Wait for a server's graph where there are many vectors; return its recall@10.

        None where every vector is compared: with few, in a folder, and where the widest search
        doesn't reach `RECALL`.
        """
        self.tuning = {}
        count = self._count(None)
        if not self.connection.is_server:
            self.connection.settle(self.table)
            if count > _MOST_IN_FOLDER:
                logger.warning(
                    "a folder of Qdrant is slow above %s passages; take a server, or --store lance",
                    f"{_MOST_IN_FOLDER:,}",
                )
            return None
        if count * self.dim <= EXACT_UP_TO:
            return None
        while self.client.get_collection(self.table).status == models.CollectionStatus.YELLOW:
            time.sleep(1)  # the server builds its graphs
        return self._tune()

    def _tune(self) -> float | None:
        """Choose the width of a search: the smallest that reaches `RECALL`."""
        points, _ = self.client.scroll(self.table, limit=_SAMPLE, with_vectors=[DENSE])
        queries = [_dense(point) for point in points]
        right = self._hits([self._near(query, 10, None, None) for query in queries])
        for width in _WIDTHS:
            found = self._hits([self._near(query, 10, None, width) for query in queries])
            if (recall := mean_recall(right, found)) >= RECALL:
                self.tuning = {"width": width}
                return recall
        return None

    @_explained
    def drop(self) -> None:
        """Delete the generation's collection."""
        self.connection.words.pop(self.table, None)
        self.client.delete_collection(self.table)


def _point_id(id_: str) -> str:
    return str(uuid5(NAMESPACE_OID, clean(id_)))


def _dense(point: models.Record) -> list[float]:
    assert isinstance(point.vector, dict)
    vector: Any = point.vector[DENSE]
    return list(vector)


def _passage(payload: Mapping[str, Any]) -> Passage:
    text, title = payload.get("text") or "", payload.get("title") or ""
    return Passage.from_dict(
        {"id": payload["id"], "text": text, "title": title, **json.loads(payload["record"])}
    )
