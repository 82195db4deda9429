"""Read a table of any length in parts, so that some of its rows are in memory at a time."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from dalm.io.row_types import Row, Rows, Unit, UnreadRow, check_columns
from dalm.io.table_files import kind, read_rows
from dalm.io.tables import Table, empty, plain_columns, readable, reading

ROWS = 4096
"""Rows of a part."""


class TableParts:
    """A csv, tsv, jsonl or parquet file in parts; a .json list is held as a whole.

    `table` has the names of the columns and reads cells from the file; it has the number of rows
    when the parts were gone through, and `unread` is then the number of those that can't be read.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self.path, self.encoding = path, encoding
        self.unread = 0
        with reading(path):
            self.table = self._header()

    def _header(self) -> Table:
        if kind(self.path) == ".parquet":
            from pyarrow.parquet import ParquetFile

            with ParquetFile(self.path) as file:
                schema = file.schema_arrow
            names, plain = tuple(schema.names), plain_columns(schema)
            unit: Unit = "row"
        else:
            rows = self._rows()
            unit = rows.unit
            found = (name for row in rows.rows if isinstance(row, Row) for name in row.cells)
            names = plain = rows.columns or tuple(dict.fromkeys(found))
        check_columns(names)
        if not names:
            raise empty(str(self.path))
        return Table(str(self.path), names, 0, self._cells, unit, array("Q"), plain)

    def _rows(self, names: Iterable[str] | None = None) -> Rows:
        chosen = set(names or ())
        return read_rows(
            self.path,
            encoding=self.encoding,
            select=lambda there: [name for name in there if not names or name in chosen],
        )

    def _cells(self, name: str) -> Any:
        """Yield a column's cells, as the file has them."""
        with reading(self.path):
            for row in self._rows([name]).rows:
                if isinstance(row, Row):
                    yield row.cells.get(name)

    def parts(self, names: Iterable[str]) -> Iterator[Table]:
        """Yield tables of `ROWS` rows with the columns named.

        Raises:
            UserError: the file is broken, or none of its rows can be read.
        """
        numbers: Any = self.table.numbers
        with reading(self.path):
            rows = self._rows(names)
            read = readable(self.path, replace(rows, rows=self._counted(rows.rows)))
            while some := list(islice(read, ROWS)):
                places = array("Q", [row.number for row in some])
                numbers.extend(places)
                yield replace(
                    self.table,
                    rows=len(some),
                    numbers=places,
                    read=_reader([r.cells for r in some]),
                )
        if not numbers:
            raise empty(str(self.path))
        self.table = replace(self.table, rows=len(numbers))

    def _counted(self, rows: Iterable[Row | UnreadRow]) -> Iterator[Row | UnreadRow]:
        for row in rows:
            self.unread += isinstance(row, UnreadRow)
            yield row


def _reader(cells: Sequence[dict[str, object]]) -> Any:
    return lambda name: [row.get(name) for row in cells]
