"""Read the rows of a table, or the texts at a path into JSON, as documents, one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dalm.errors import UserError
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions, Skipped
from dalm.io import table_files
from dalm.io.cell_values import CellError, cell_text, values_at
from dalm.io.columns import find_text_columns
from dalm.io.table_files import UnreadRow


def read_rows(path: Path, source: str, options: LoaderOptions) -> Iterator[Document | Skipped]:
    """Read a document from each row, or several where a path into JSON leads through lists.

    What can't be read of a row is yielded as `Skipped`; a row without a text is a document with an
    empty one. Rows are read one after the other, however long the file is.

    Raises:
        UserError: from here on nothing of the file can be read.
    """

    def select(names: Sequence[str]) -> list[str]:
        columns = find_text_columns(names, options.text_column, options.title_column)
        roots = (name if name in names else name.partition(".")[0] for name in columns if name)
        return [root for root in dict.fromkeys(roots) if root in names]

    rows = table_files.read_rows(
        path, encoding=options.encoding, max_bytes=options.max_bytes, select=select
    )
    columns = None
    if rows.columns is not None:
        columns = find_text_columns(rows.columns, options.text_column, options.title_column)
    for row in rows.rows:
        place = f"{source}, {rows.unit} {row.number}" if row.number else source
        if isinstance(row, UnreadRow):
            yield Skipped(place, row.reason)
            continue
        try:
            text, title = columns or _columns_of(row.cells, options)
        except UserError as error:
            yield Skipped(place, str(error))
            continue
        yield from _texts(row.cells, text, title, place)


def _columns_of(row: Mapping[str, object], options: LoaderOptions) -> tuple[str, str | None]:
    """Return where the text and the title are in an object of its own names."""
    if options.text_column is not None:
        return options.text_column, options.title_column or "title"
    text, title = find_text_columns(list(row))
    return text, options.title_column or title


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
