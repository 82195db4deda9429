"""Find passages by their words (BM25) in a LanceDB table, with an inverted index of the words."""

from typing import Any

from lancedb.index import FTS
from lancedb.query import MatchQuery
from lancedb.table import Table

from dalm.retrieval.bm25 import K1
from dalm.retrieval.stores.lance_rows import SHOWN, Row, rows_of

COLUMN = "words"
_CONFIG = FTS(
    base_tokenizer="whitespace",
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
    with_position=False,
    max_token_length=None,
)
_COUNTED = "deleted_when_indexed"
_FACTOR = K1 + 1
"""LanceDB's weight of a word is tf · (k1 + 1) / (tf + …), and `BM25`'s hasn't that factor."""


class LanceWords:
    """Search the words of a table."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def search(self, query: str, k: int, where: str | None) -> list[Row]:
        """Return the k best for a query, or fewer where there are fewer; equal scores: any."""
        if not query:
            return []
        match: Any = MatchQuery(query, COLUMN)  # type: ignore[call-arg]  # they have defaults
        search = self.table.search(match, query_type="fts")
        if where is not None:
            search = search.where(where, prefilter=True)
        found = search.select([*SHOWN, "_score"]).limit(k).to_arrow()
        return rows_of(found, [score / _FACTOR for score in found["_score"].to_pylist()])

    def build(self) -> None:
        """Make the index, if there is none."""
        if not any(COLUMN in index.columns for index in self.table.list_indices()):
            self._create()

    def forget_deleted(self) -> None:
        """Make the index anew if its weights count passages that have been deleted since.

        To be called after a compaction. What that has removed is counted no more; what only stands
        in a list of deleted rows still is.
        """
        deleted = self.table.list_versions()[-1]["metadata"]["total_deletion_file_rows"]
        known = self.table.schema.field(COLUMN).metadata or {}
        if known.get(_COUNTED.encode(), b"0").decode() == deleted:
            return
        if deleted != "0":
            self._create()
        self.table.update_field_metadata({"path": COLUMN, "metadata": {_COUNTED: deleted}})

    def _create(self) -> None:
        self.table.create_index(COLUMN, config=_CONFIG, replace=True)
