"""Queries in, hits out; passages in, an index out."""

from collections.abc import Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.exact import Index, index_kind


class Encoder(Protocol):
    """Turn texts into normalised fp32 vectors, on any device; the retriever does."""

    def encode_queries(self, texts: Sequence[str], /) -> Float[Tensor, "n dim"]:
        """Return the vectors of questions."""
        ...

    def encode_passages(self, texts: Sequence[str], /) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages."""
        ...


def build_index(
    retriever: Encoder,
    passages: Sequence[Passage],
    kind: str = "exact",
    fingerprint: str | None = None,
) -> Index:
    """Encode the passages and index them; `kind` is `exact` or `hnsw`.

    A passage that stands in several rows is indexed once, so that it fills one place in a ranking.
    Raises UserError for no passages and for an unknown kind.
    """
    make = index_kind(kind)
    first: dict[str, Passage] = {}
    for passage in passages:
        first.setdefault(passage.id, passage)
    if not first:
        raise UserError("there are no passages to index: the table or the column is empty")
    vectors = retriever.encode_passages([passage.text for passage in first.values()])
    return make(list(first.values()), vectors, fingerprint)


def find(retriever: Encoder, queries: Sequence[str], index: Index, k: int) -> list[list[Hit]]:
    """Return each query's min(k, N) best passages, best first; a repeated query is encoded once."""
    if not queries:
        return []
    distinct = list(dict.fromkeys(queries))
    scores, rows = index.search(retriever.encode_queries(distinct), k)
    found = {
        query: [Hit(index.passages[row], score) for score, row in zip(*line, strict=True)]
        for query, *line in zip(distinct, scores.tolist(), rows.tolist(), strict=True)
    }
    return [list(found[query]) for query in queries]
