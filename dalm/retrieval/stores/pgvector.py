"""Keep passages, vectors and words in PostgreSQL with pgvector.

A generation has a table of passages, an inverted table of their words, from which BM25 is computed
in SQL, and a row of totals. PostgreSQL's own `ts_rank` isn't BM25, and has its own words.
"""

import json
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import psycopg
import torch
from jaxtyping import Float
from pgvector.psycopg import register_vector
from torch import Tensor

from dalm.analyser import terms
from dalm.errors import UserError
from dalm.file_reading import DamagedError
from dalm.records import Hit, Passage
from dalm.redaction import redacted, without_password
from dalm.retrieval.base import (
    EXACT_UP_TO,
    REBUILD,
    RECALL,
    best_in_order,
    check_added,
    check_k,
    check_searched,
    like_questions,
    mean_recall,
)
from dalm.retrieval.bm25 import K1, B
from dalm.retrieval.conditions import Condition
from dalm.retrieval.store_kinds import FP32, StorePlace
from dalm.retrieval.stored_values import digest_of, values_of
from dalm.retrieval.where import FIELDS, Columns

_TYPES = {str: 'text COLLATE "C"', int: "bigint", float: "double precision", bool: "boolean"}
_LEAST_VERSION = (0, 8)
"""Of pgvector: the first that goes on searching its graph until a condition's k are found."""
_MOST_DIMENSIONS = 2000
"""Of fp32 vectors in a graph of pgvector."""
_WIDTHS = (40, 80, 160, 320, 640, 1000)
"""Candidates (ef_search) that a search of the graph keeps; pgvector allows no more."""
_SAMPLE, _TUNED = 100, 10
"""Queries, and hits of each, of which the recall is tuned."""
_SHOWN = 'id, "text", title, record'
P = ParamSpec("P")
T = TypeVar("T")


def _explained(
    method: Callable[Concatenate["PgvectorStore", P], T],
) -> Callable[Concatenate["PgvectorStore", P], T]:
    """Let one thread use the connection at a time; say in one line what PostgreSQL refuses.

    After a connection was lost, such as by a restart of the server, the method is tried once more.
    """

    @wraps(method)
    def explained(store: "PgvectorStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with store.lock:
            try:
                if store.connection.closed:
                    store.connect()
                try:
                    return method(store, *args, **kwargs)
                except psycopg.OperationalError:
                    if not store.connection.closed:
                        raise
                    store.connect()
                    return method(store, *args, **kwargs)
            except psycopg.Error as error:
                raise _refusal(store.url, error) from error

    return explained


def _refusal(url: str, error: psycopg.Error) -> UserError:
    """Return an error of PostgreSQL as one line with a remedy."""
    secret = unquote(urlsplit(url).password or "") or None
    reason = " ".join(redacted(str(error), secret).split())[:300]
    remedies = {
        psycopg.errors.UndefinedTable: REBUILD,
        psycopg.errors.DiskFull: "free some space on the server, and run the same command again",
        psycopg.errors.InsufficientPrivilege: "grant the user the right, or name another user",
    }
    remedy = next((text for kind, text in remedies.items() if isinstance(error, kind)), None)
    if remedy is None:
        remedy = (
            "give the password in --store-url or PGPASSWORD"
            if "password" in reason
            else "start the server, or correct its address"
        )
    return UserError(f"PostgreSQL at {without_password(url)} can't be used: {reason}; {remedy}")


class PgvectorStore:
    """A vector store in a database of PostgreSQL."""

    keeps_order = True

    def __init__(self, place: StorePlace) -> None:
        assert place.url is not None
        self.url, self.table, self.dim = place.url, place.table, place.dim
        self.words, self.totals = f"{self.table}_words", f"{self.table}_totals"
        self.extra = dict(place.columns)
        self.codes = place.vectors
        self.tuning: dict[str, int] = dict(place.tuning)
        self.lock = threading.RLock()
        try:
            self.connect()
            self._open(create=place.create)
        except psycopg.Error as error:
            raise _refusal(self.url, error) from error

    def connect(self) -> None:
        """Connect to the server."""
        self.connection: psycopg.Connection[Any] = psycopg.connect(
            self.url, autocommit=True, connect_timeout=10, application_name="dalm"
        )
        weakref.finalize(self, self.connection.close)
        self.connection.execute("SET standard_conforming_strings = on")
        self._require_extension()
        register_vector(self.connection)

    def _require_extension(self) -> None:
        where = f"PostgreSQL at {without_password(self.url)}"
        find = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        if (found := self.connection.execute(find).fetchone()) is None:
            try:
                self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            except psycopg.Error as error:
                raise UserError(
                    f"{where} has no extension vector ({' '.join(str(error).split()):.150}); "
                    "install pgvector on the server, and run CREATE EXTENSION vector as its "
                    "administrator"
                ) from error
            found = self.connection.execute(find).fetchone()
        assert found is not None
        if tuple(int(part) for part in found[0].split(".")[:2]) < _LEAST_VERSION:
            raise UserError(
                f"{where} has pgvector {found[0]}, and 0.8 is needed; install it on the server, "
                "and run ALTER EXTENSION vector UPDATE"
            )

    def _open(self, *, create: bool) -> None:
        if not create:
            if self._one("SELECT to_regclass(%s)", [self.table]) is None:
                place = without_password(self.url)
                raise DamagedError(f"the table {self.table} is missing in {place}; {REBUILD}")
            return
        fields = ", ".join(f"{self._column(name)} {_TYPES[kind]}" for name, kind in FIELDS.items())
        with self.connection.transaction():
            self.connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.table} (row bigserial PRIMARY KEY, {fields}, "
                f"record text, digest text, vector vector({self.dim}), UNIQUE (id))"
            )
            self.connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.words} (word text, row bigint REFERENCES "
                f"{self.table} ON DELETE CASCADE, n int, length int, PRIMARY KEY (word, row))"
            )
            self.connection.execute(
                f"CREATE INDEX IF NOT EXISTS {self.words}_row ON {self.words} (row)"
            )
            self.connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.totals} (passages bigint, words bigint)"
            )
            if not self._one(f"SELECT count(*) FROM {self.totals}"):
                self.connection.execute(f"INSERT INTO {self.totals} VALUES (0, 0)")
            self._add_missing()

    def _one(self, sql: str, values: Sequence[Any] | None = None) -> Any:
        row = self.connection.execute(sql, values).fetchone()
        return row[0] if row else None

    # Columns

    @property
    def columns(self) -> Columns:
        """What a condition may name, with types."""
        return {**FIELDS, **self.extra}

    @_explained
    def add_columns(self, columns: Mapping[str, type]) -> None:
        """Add columns for conditions; the passages that are there have no values in them."""
        self.extra |= {name: kind for name, kind in columns.items() if name not in self.extra}
        self._add_missing()

    def _add_missing(self) -> None:
        for name, kind in self.extra.items():
            column = f"{self._column(name)} {_TYPES[kind]}"
            self.connection.execute(f"ALTER TABLE {self.table} ADD COLUMN IF NOT EXISTS {column}")

    def _column(self, name: str) -> str:
        """Return a column's name in the table: a user's may hold anything."""
        return f'"{name}"' if name in FIELDS else f"extra_{list(self.extra).index(name)}"

    def _where(self, condition: Condition | None) -> str:
        """Return a condition as an expression for a statement with values."""
        return "true" if condition is None else _clean(condition.sql(self._column))

    # Passages

    @_explained
    def add(self, passages: Sequence[Passage], vectors: Float[Tensor, "n dim"]) -> None:
        """Add passages with their vectors; one whose id is there takes that one's place."""
        check_added(passages, vectors, self.dim)
        if not passages:
            return
        with self.connection.transaction():
            self._delete([passage.id for passage in passages])
            sequence = self._one("SELECT pg_get_serial_sequence(%s, 'row')", [self.table])
            numbers = f"SELECT nextval('{sequence}') FROM generate_series(1, {len(passages)})"
            rows = [row for (row,) in self.connection.execute(numbers)]
            self._copy_passages(rows, passages, vectors)
            total = self._copy_words(rows, passages)
            self._count_on(len(passages), total)

    def _copy_passages(
        self, rows: Sequence[int], passages: Sequence[Passage], vectors: Tensor
    ) -> None:
        names = ", ".join(map(self._column, self.columns))
        numbers = vectors.detach().float().cpu().numpy()
        copy = f"COPY {self.table} (row, {names}, record, digest, vector) FROM STDIN"
        with self.connection.cursor().copy(copy) as out:
            for row, passage, vector in zip(rows, passages, numbers, strict=True):
                values = values_of(passage, self.columns).values()
                kept = [_clean(each) if isinstance(each, str) else each for each in values]
                out.write_row([row, *kept, _record(passage), digest_of(passage), vector])

    def _copy_words(self, rows: Sequence[int], passages: Sequence[Passage]) -> int:
        """Write the inverted table; return the number of words."""
        total = 0
        with self.connection.cursor().copy(f"COPY {self.words} FROM STDIN") as out:
            for row, passage in zip(rows, passages, strict=True):
                found = Counter(map(_clean, terms(passage.text)))
                length = found.total()
                total += length
                for word, number in found.items():
                    out.write_row([word, row, number, length])
        return total

    def _count_on(self, passages: int, words: int) -> None:
        change = f"UPDATE {self.totals} SET passages = passages + %s, words = words + %s"
        self.connection.execute(change, [passages, words])

    @_explained
    def delete(self, ids: Sequence[str]) -> int:
        """Delete passages by their ids, for every search at once; return how many were there."""
        with self.connection.transaction():
            return self._delete(ids)

    def _delete(self, ids: Sequence[str]) -> int:
        there = f"SELECT row FROM {self.table} WHERE id = ANY(%s)"
        rows = [row for (row,) in self.connection.execute(there, [list(ids)])]
        if rows:
            counted = "SELECT coalesce(sum(n), 0)::bigint FROM"
            lengths = f"{counted} {self.words} WHERE row = ANY(%s::bigint[])"
            total = self._one(lengths, [rows])
            gone = f"DELETE FROM {self.table} WHERE row = ANY(%s::bigint[])"
            self.connection.execute(gone, [rows])
            self._count_on(-len(rows), -total)
        return len(rows)

    @_explained
    def count(self, where: Condition | None = None) -> int:
        """Return the number of passages, of those that fulfil a condition if it is given."""
        return int(self._one(f"SELECT count(*) FROM {self.table} WHERE {self._where(where)}"))

    @_explained
    def digests(self) -> dict[str, str]:
        """Return a hash of each passage's text and provenance, by its id."""
        return dict(self.connection.execute(f"SELECT id, digest FROM {self.table}").fetchall())

    def select(
        self, columns: Sequence[str], where: Condition | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Yield each passage's values of these columns, of those that fulfil a condition."""
        yield from self._selected(", ".join(map(self._column, columns)), where)

    @_explained
    def _selected(self, names: str, where: Condition | None) -> list[tuple[Any, ...]]:
        sql = f"SELECT {names} FROM {self.table} WHERE {self._where(where)} ORDER BY row"
        return self.connection.execute(sql).fetchall()

    @_explained
    def passages_of(self, ids: Sequence[str]) -> dict[str, Passage]:
        """Return those passages that are there, by their ids."""
        sql = f"SELECT {_SHOWN} FROM {self.table} WHERE id = ANY(%s)"
        found = (_passage(*row) for row in self.connection.execute(sql, [list(ids)]))
        return {passage.id: passage for passage in found}

    def texts_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the texts of those passages that are there, by their ids."""
        return {each: passage.text for each, passage in self.passages_of(ids).items()}

    @_explained
    def vectors_of(self, ids: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages by their ids. Raises KeyError for an unknown id."""
        sql = f"SELECT id, vector FROM {self.table} WHERE id = ANY(%s)"
        found = {each: _numbers(row) for each, row in self.connection.execute(sql, [list(ids)])}
        rows = [found[each] for each in ids]
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, self.dim)

    # Search

    @_explained
    def search(
        self, vectors: Float[Tensor, "B dim"], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages for each vector of a query, best inner product first.

        Every vector is compared where that are few enough; else the graph chooses, as it does at
        any number of passages if it is one of codes.
        """
        check_searched(vectors, self.dim)
        check_k(k)
        condition = self._where(where)
        queries = vectors.detach().float().cpu().numpy()
        if not self.tuning or k >= _WIDTHS[-1] or self._is_few(where):
            return [self._exact(query, k, condition) for query in queries]

        def find(places: Sequence[int], n: int) -> list[list[Hit]]:
            return [self._near(queries[place], n, condition) for place in places]

        return best_in_order(find, len(queries), k)

    def _is_few(self, where: Condition | None) -> bool:
        return where is not None and self.count(where) * self.dim <= EXACT_UP_TO

    def _exact(self, query: np.ndarray[Any, Any], k: int, condition: str) -> list[Hit]:
        # An ordering by a sum uses no index.
        sql = (
            f"SELECT {_SHOWN}, -(vector <#> %s) FROM {self.table} WHERE {_doubled(condition)} "
            "ORDER BY (vector <#> %s) + 0, id LIMIT %s"
        )
        return self._hits(sql, [query, query, k])

    def _near(self, query: np.ndarray[Any, Any], k: int, condition: str) -> list[Hit]:
        """Search the graph; compare every vector where it finds fewer than k."""
        width, values = max(self.tuning["width"], k), [query, query, k]
        chosen = f"SELECT * FROM {self.table} WHERE {_doubled(condition)}"
        if self.codes != FP32:  # candidates are scored again, more for more hits
            width = self.tuning["width"] * max(1, k // _TUNED)
            code = f"binary_quantize(%s)::bit({self.dim})"
            chosen += f" ORDER BY {self._coded} <~> {code} LIMIT {width}"
            values = [query, *values]
        sql = (
            f"SELECT {_SHOWN}, -(vector <#> %s) FROM ({chosen}) AS chosen "
            "ORDER BY vector <#> %s LIMIT %s"
        )
        with self.connection.transaction():
            self.connection.execute(f"SET LOCAL hnsw.ef_search = {min(width, _WIDTHS[-1])}")
            self.connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            hits = self._hits(sql, values)
        return hits if len(hits) == k else self._exact(query, k, condition)

    @property
    def _coded(self) -> str:
        """The code of a vector, as its graph has it."""
        return f"(binary_quantize(vector)::bit({self.dim}))"

    def _hits(self, sql: str, values: Sequence[Any]) -> list[Hit]:
        found = self.connection.execute(sql, values)
        return [Hit(_passage(*row[:4]), float(row[4])) for row in found]

    @_explained
    def text_search(
        self, queries: Sequence[str], k: int, where: Condition | None = None
    ) -> list[list[Hit]]:
        """Return at most k passages that share words with each query, best BM25 score first."""
        check_k(k)
        chosen = "true"
        if where is not None:
            condition = _doubled(self._where(where))
            chosen = f"row IN (SELECT row FROM {self.table} WHERE {condition})"
        sql = _BM25.format(
            table=self.table, words=self.words, totals=self.totals, chosen=chosen, shown=_SHOWN
        )
        counted = [Counter(map(_clean, terms(query))) for query in queries]
        return [
            self._hits(sql, [list(found), list(found.values()), k, k]) if found else []
            for found in counted
        ]

    # Upkeep

    @_explained
    def optimise(self, *, in_use: bool) -> float | None:
        """Build the graph where there are many vectors; return its recall@10 of exact search.

        A graph of codes is built of few vectors, too. None where every vector is compared: with
        few, or of more than 2,000 dimensions, and where the widest search doesn't reach `RECALL`.
        """
        self.tuning = {}
        self.connection.execute(f"VACUUM (ANALYZE) {self.table}")
        self.connection.execute(f"VACUUM (ANALYZE) {self.words}")
        number, coded = self.count(), self.codes != FP32
        many = number * self.dim > EXACT_UP_TO and self.dim <= _MOST_DIMENSIONS
        if not number or not (many or coded):
            return None
        index, how = f"{self.table}_graph", "CONCURRENTLY " if in_use else ""
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
        if not self._one(valid, [index]):  # a build that was killed leaves an invalid one
            self.connection.execute(f"DROP INDEX IF EXISTS {index}")
            kept = f"{self._coded} bit_hamming_ops" if coded else "vector vector_ip_ops"
            self.connection.execute(
                f"CREATE INDEX {how}{index} ON {self.table} USING hnsw ({kept})"
            )
        return self._tune()

    def _tune(self) -> float | None:
        """Choose the width of a search: the smallest that reaches `RECALL`."""
        sql = f"SELECT vector FROM {self.table} ORDER BY hashint8(row) LIMIT {_SAMPLE}"
        stored = [_numbers(vector) for (vector,) in self.connection.execute(sql)]
        queries = like_questions(torch.from_numpy(np.stack(stored))).numpy()
        right = [self._exact(query, _TUNED, "true") for query in queries]
        for width in _WIDTHS:
            self.tuning = {"width": width}
            recall = mean_recall(right, [self._near(query, _TUNED, "true") for query in queries])
            if recall >= RECALL:
                return recall
        self.tuning = {}
        return None

    @_explained
    def drop(self) -> None:
        """Delete the generation's tables."""
        names = ", ".join([self.words, self.totals, self.table])
        self.connection.execute(f"DROP TABLE IF EXISTS {names}")


_BM25 = f"""
WITH query AS (SELECT * FROM unnest(%s::text[], %s::int[]) AS q(word, times)),
totals AS (SELECT passages, words::float8 / greatest(passages, 1) AS mean FROM {{totals}}),
postings AS (SELECT * FROM query JOIN {{words}} USING (word)),
weights AS (
    SELECT word, ln(1 + (passages - count(*) + 0.5::float8) / (count(*) + 0.5)) AS idf
    FROM postings, totals GROUP BY word, passages
),
scores AS (
    SELECT row, sum(
        times * idf * n / (n + {K1} * (1 - {B} + {B} * length / greatest(mean, 1e-9)))
    )::real AS score
    FROM postings JOIN weights USING (word), totals WHERE {{chosen}} GROUP BY row
),
best AS (SELECT * FROM scores ORDER BY score DESC FETCH FIRST %s ROWS WITH TIES)
SELECT {{shown}}, score FROM best JOIN {{table}} USING (row) ORDER BY score DESC, id LIMIT %s
"""


def _clean(text: str) -> str:
    """Return a text as PostgreSQL can keep it: without 0 bytes and unpaired surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _doubled(sql: str) -> str:
    """Return SQL for a statement with values, where % stands for one of them."""
    return sql.replace("%", "%%")


def _record(passage: Passage) -> str:
    """Return what isn't in columns, and those texts that columns can't keep."""
    texts = {"text": passage.text, "title": passage.title}
    lost = {name: text for name, text in texts.items() if _clean(text) != text}
    return json.dumps({**passage.provenance(), **lost})


def _passage(id_: str, text: str, title: str | None, record: str) -> Passage:
    return Passage.from_dict({"id": id_, "text": text, "title": title or "", **json.loads(record)})


def _numbers(vector: Any) -> np.ndarray[Any, Any]:
    """Return a vector as pgvector's package gives it, as an array."""
    found = vector.to_numpy() if hasattr(vector, "to_numpy") else vector
    return np.array(found, dtype=np.float32)
