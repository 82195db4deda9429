"""Find passages by their vectors in a LanceDB table: compare every one, or let an index choose.

An index parts the vectors and keeps a code of each; the best by their codes are scored again by the
vectors in fp32, so that a score is exact whatever found its passage.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from lancedb.index import IvfPq, IvfRq, IvfSq
from lancedb.table import Table
from torch import Tensor

from dalm.errors import UserError
from dalm.retrieval.base import RECALL, like_questions, mean_recall
from dalm.retrieval.store_kinds import FP32
from dalm.retrieval.stores.lance_rows import SHOWN, Row, rows_of

COLUMN = "vector"
_QUERIES = 64
"""Queries that are searched at once."""
_SAMPLE, _MOST_PROBES = 100, 1024
_REFINED = 10
"""Candidates that are scored again for each hit, at least; of one hit, as many as of `_TUNED`."""
_TUNED = 10
"""Hits of which the recall is tuned."""


class LanceVectors:
    """Search the vectors of a table; `codes` as `StorePlace.vectors`.

    `tuning` is empty while every vector is compared.
    """

    def __init__(self, table: Table, dim: int, codes: str) -> None:
        self.table, self.dim, self.codes = table, dim, codes
        self.tuning: dict[str, int] = {}

    def search(
        self, queries: Float[Tensor, "B dim"], k: int, where: str | None, *, exact: bool
    ) -> list[list[Row]]:
        """Return the k best for each query, or fewer where there are fewer; equal scores: any."""
        rows: list[list[Row]] = []
        for block in queries.detach().float().cpu().split(_QUERIES):
            found = self._nearest(block, k, where, exact=exact)
            if not exact and any(len(each) < k for each in found):  # too few in the parts read
                found = self._nearest(block, k, where, exact=True)
            rows += found
        return rows

    def _nearest(
        self, queries: Tensor, k: int, where: str | None, *, exact: bool
    ) -> list[list[Row]]:
        # A matrix of one query is searched as one query, without `query_index`.
        search: Any = self.table.search(list(queries.numpy()), vector_column_name=COLUMN)
        search = search.distance_type("dot")
        if exact:
            search = search.bypass_vector_index()
        else:
            # More partitions are worth no more than the candidates that are scored again.
            probes = self.tuning["probes"]
            refined = max(_REFINED, probes // 8) * math.ceil(_TUNED / min(k, _TUNED))
            search = search.nprobes(probes).refine_factor(refined)
        if where is not None:
            search = search.where(where, prefilter=True)
        found = search.select([*SHOWN, "_distance"]).limit(k).to_arrow()
        scores = [1 - each for each in found["_distance"].to_pylist()]
        places = found["query_index"].to_pylist() if len(queries) > 1 else [0] * len(scores)
        rows: list[list[Row]] = [[] for _ in queries]
        for place, row in zip(places, rows_of(found, scores), strict=True):
            rows[place].append(row)
        return rows

    # The index

    def build(self) -> None:
        """Build the index; again if it was made of no more than half of the vectors there are."""
        name = next((i.name for i in self.table.list_indices() if COLUMN in i.columns), None)
        stats = self.table.index_stats(name) if name else None
        if stats is None or stats.num_unindexed_rows > stats.num_indexed_rows:
            self.table.create_index(COLUMN, config=self._config(), replace=True)

    def _config(self) -> IvfPq | IvfSq | IvfRq:
        partitions = max(1, math.isqrt(self.table.count_rows()))
        if self.codes == "int8":
            return IvfSq(distance_type="dot", num_partitions=partitions)
        if self.codes == "binary":
            return IvfRq(distance_type="dot", num_partitions=partitions)
        sub_vectors = self.dim // 8
        return IvfPq(distance_type="dot", num_partitions=partitions, num_sub_vectors=sub_vectors)

    def tune(self) -> float | None:
        """Choose the number of partitions to read: the smallest that reaches `RECALL`.

        Returns the recall@10 of exact search of `_SAMPLE` queries, `like_questions`; None if no
        number reaches it, and every vector is to be compared.
        """
        count = self.table.count_rows()
        places = list(range(0, count, max(1, count // _SAMPLE)))
        sample = self.table.take_offsets(places).select([COLUMN]).to_arrow()
        queries = like_questions(torch.tensor(sample[COLUMN].to_pylist()))
        right = self.search(queries, _TUNED, None, exact=True)
        probes = 16
        while probes <= _MOST_PROBES:
            self.tuning = {"probes": probes}
            recall = mean_recall(right, self._nearest(queries, _TUNED, None, exact=False))
            if recall >= RECALL:
                return recall
            probes *= 2
        self.tuning = {}
        return None


def check_codes(codes: str, dim: int) -> None:
    """Refuse dimensions of which LanceDB makes no codes.

    Raises:
        UserError: names the dimensions.
    """
    if codes == "binary" and dim % 8:
        raise UserError(
            f"--vectors binary: LanceDB needs vectors whose dimensions are a multiple of 8, and "
            f"the retriever's have {dim}; choose --vectors {FP32} or int8"
        )
