"""Make passages of what LanceDB gives, of those rows alone that are read."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from dalm.records import Hit, Passage

SHOWN = ["id", "text", "title", "record"]
"""Columns of which a passage is made."""


class Row(NamedTuple):
    """A passage that was found: a row of a table with the columns `SHOWN`."""

    id: str
    score: float
    table: pa.Table
    place: int

    @property
    def passage(self) -> Passage:
        """The passage itself."""
        text, title, record = (self.table[name][self.place].as_py() for name in SHOWN[1:])
        return Passage.from_dict(
            {"id": self.id, "text": text, "title": title or "", **json.loads(record)}
        )


def rows_of(found: pa.Table, scores: Sequence[float]) -> list[Row]:
    """Return the rows of a table with their scores."""
    pairs = zip(found["id"].to_pylist(), scores, strict=True)
    return [Row(id_, score, found, place) for place, (id_, score) in enumerate(pairs)]


def as_hits(found: Sequence[Sequence[Row]]) -> list[list[Hit]]:
    """Return each query's rows as hits."""
    return [[Hit(row.passage, row.score) for row in rows] for rows in found]
