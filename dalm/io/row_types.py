"""Define what the reader of table files yields: rows, and those that can't be read."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dalm.io.text_lines import UnreadableError

MOST_COLUMNS = 10_000

Unit = Literal["line", "item", "row"]
Select = Callable[[Sequence[str]], Sequence[str]]


class Row(NamedTuple):
    """The cells of a row by their columns' names; `number` counts the file's units from 1.

    A csv row of several lines has the number of its last line, a file of one JSON object number 0.
    """

    number: int
    cells: dict[str, object]


class UnreadRow(NamedTuple):
    """A row that was passed over, and why."""

    number: int
    reason: str


class Reading(NamedTuple):
    """How large a row may be, and whether to go on after one that is broken."""

    max_bytes: int | None
    recover: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file, to be gone through once.

    `columns` are those of the header; None for JSON, whose rows name their own. Numbers count
    `unit`: lines of a text file, items of a JSON list, rows of a parquet file.
    """

    columns: tuple[str, ...] | None
    unit: Unit
    rows: Iterator[Row | UnreadRow]


def check_columns(names: Sequence[str]) -> None:
    """Refuse a table with two columns of a name, or with more columns than any table of texts.

    Raises:
        UnreadableError: names the column, or the number of columns.
    """
    if len(names) > MOST_COLUMNS:
        raise UnreadableError(
            f"it has {len(names):,} columns, more than {MOST_COLUMNS:,}; keep those with texts (is "
            "the table transposed?)"
        )
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise UnreadableError(f"it has more than one column {repeated!r}; rename all but one")
