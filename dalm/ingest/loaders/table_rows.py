"""Read the rows of a table, or the texts at a path into JSON, as documents, one after the other."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dalm.errors import UserError
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions, Skipped
from dalm.io import table_files
from dalm.io.cell_values import CellError, cell_text, values_at
from dalm.io.columns import column_for, find_text_columns, has_path
from dalm.io.row_types import UnreadRow

logger = logging.getLogger(__name__)


def read_rows(path: Path, source: str, options: LoaderOptions) -> Iterator[Document | Skipped]:
    """Read a document from each row, or several where a path into JSON leads through lists.

    What can't be read of a row is yielded as `Skipped`; a row without a text is a document with an
    empty one. Rows are read one after the other, however long the file is.

    Raises:
        UserError: from here on nothing of the file can be read.
    """
    wanted = _Wanted(source, options)

    def select(names: Sequence[str]) -> list[str]:
        roots = (name if name in names else name.partition(".")[0] for name in wanted.find(names))
        return [root for root in dict.fromkeys(roots) if root in names]

    rows = table_files.read_rows(
        path, encoding=options.encoding, max_bytes=options.max_bytes, select=select, recover=True
    )
    columns = None if rows.columns is None else wanted.find(rows.columns)
    for row in rows.rows:
        place = f"{source}, {rows.unit} {row.number}" if row.number else source
        if isinstance(row, UnreadRow):
            yield Skipped(place, row.reason)
            continue
        try:
            text, title = columns or wanted.find_in(row.cells)
        except UserError as error:
            yield Skipped(place, str(error))
            continue
        yield from _texts(row.cells, text, title or None, place)


class _Wanted:
    """The columns that the options name for a table, or those that it has."""

    def __init__(self, source: str, options: LoaderOptions) -> None:
        self.source, self.several = source, options.several_tables
        self.text = column_for(options.text_column, source)
        self.title = column_for(options.title_column, source)
        self.logged = False

    def find(self, names: Sequence[str]) -> tuple[str, str]:
        """Return the columns with the text and the title, "" without one.

        Raises:
            UserError: there is none for the text, or not the one that was named.
        """
        text, title = find_text_columns(names, self.text, self.title, only_if_there=self.several)
        if self.text not in (None, text) and not self.logged:
            self.logged = True
            logger.warning("%s: no column %r, reading %r", self.source, self.text, text)
        return text, title or ""

    def find_in(self, row: Mapping[str, object]) -> tuple[str, str]:
        """Return where the text and the title are in an object of its own names."""
        if self.text is not None and (not self.several or has_path(row, self.text)):
            return self.text, self.title or "title"
        text, title = self.find(list(row))
        return text, self.title or title


def _texts(
    row: Mapping[str, object], text: str, title: str | None, place: str
) -> Iterator[Document | Skipped]:
    found = list(values_at(row, text, title))
    if not found:
        yield Skipped(place, f"no text at {text!r}; set --text-column to the path to it")
    for number, (cell, name) in enumerate(found, 1):
        where = place if len(found) == 1 else f"{place}, text {number}"
        try:
            yield Document(cell_text(cell), cell_text(name).strip(), where)
        except CellError as error:
            yield Skipped(where, str(error))


TABLES = [Loader(e[1:], e[1:], (e,), load_rows=read_rows) for e in table_files.READERS]
"""A loader for each extension; text may be compressed (`.csv.gz`)."""
