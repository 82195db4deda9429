"""Tables of texts, row by row: a file in, a document for each row out, however long the file."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dalm.ingest.document import Document
from dalm.ingest.loaders.json_fields import read_json, read_json_lines
from dalm.ingest.loaders.loader import LoaderOptions, UnreadableError
from dalm.ingest.loaders.table_cells import decode_line, find_columns, lines_of, row_document
from dalm.ingest.skipped import Skipped

FIELD_LIMIT = 2**31 - 1  # characters in a csv field; the largest that every platform's long holds
BATCH = 1024  # rows of a parquet file at once


def read_rows(path: Path, source: str, reading: LoaderOptions) -> Iterator[Document | Skipped]:
    """Read a document from each row; a row that can't be read is said and passed over.

    A row without a text is a document with an empty one.

    Raises:
        UnreadableError: from here on nothing of the file can be read.
    """
    return READERS[path.suffix.lower()](path, source, reading)


def _read_delimited(
    path: Path, source: str, reading: LoaderOptions, delimiter: str
) -> Iterator[Document | Skipped]:
    """Read strictly: a quote that is never closed would swallow the rest of the file in silence."""
    numbered = enumerate(lines_of(path, reading.max_bytes), 1)
    lines = (decode_line(line, number, reading.encoding) for number, line in numbered)
    table = csv.reader(lines, delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(FIELD_LIMIT)
    try:
        header = [name.strip() for name in _next_row(table) or ()]
        text, title = _columns(header, reading, delimiter)
        while (row := _next_row(table)) is not None:
            if any(row[len(header) :]):
                raise UnreadableError(
                    f"line {table.line_num}: a row of {len(row)} fields, the header has "
                    f"{len(header)}; put quotes around a field with a separator in it"
                )
            place = f"{source}, line {table.line_num}"
            yield row_document(_cell(row, text), "" if title is None else _cell(row, title), place)
    finally:
        csv.field_size_limit(limit)  # the limit belongs to the process, not to this reader


def _next_row(table: Any) -> list[str] | None:
    """Return the next row that isn't blank, None at the end."""
    begun = table.line_num + 1
    try:
        return next((row for row in table if row), None)
    except csv.Error as error:
        raise UnreadableError(
            f"the quotes of a row from line {begun} on are broken ({error}); quote the "
            'whole field and write a quote inside it twice: ""'
        ) from error


def _columns(header: list[str], reading: LoaderOptions, delimiter: str) -> tuple[int, int | None]:
    if not any(header):
        raise UnreadableError("it is empty; its first line must name the columns")
    others = [mark for mark in ",;\t|" if mark != delimiter]
    if len(header) == 1 and (found := [mark for mark in others if mark in header[0]]):
        raise UnreadableError(
            f"its columns seem to be separated by {found[0]!r}, not by {delimiter!r}; "
            "save it as .csv with commas or as .tsv with tabs"
        )
    text, title = find_columns(header, reading)
    return header.index(text), None if title is None else header.index(title)


def _cell(row: list[str], place: int) -> str:
    return row[place] if place < len(row) else ""


def _read_parquet(path: Path, source: str, reading: LoaderOptions) -> Iterator[Document | Skipped]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        text, title = find_columns(list(file.schema_arrow.names), reading)
        row = 0
        for batch in file.iter_batches(BATCH, columns=[text] + ([title] if title else [])):
            texts = batch.column(text).to_pylist()
            titles = batch.column(title).to_pylist() if title else [""] * len(texts)
            for cell, name in zip(texts, titles, strict=True):
                row += 1
                place = f"{source}, row {row}"
                try:
                    yield row_document(cell, name, place)
                except UnreadableError as error:
                    yield Skipped(place, str(error))


READERS: dict[str, Callable[[Path, str, LoaderOptions], Iterator[Document | Skipped]]] = {
    ".csv": lambda path, source, reading: _read_delimited(path, source, reading, ","),
    ".tsv": lambda path, source, reading: _read_delimited(path, source, reading, "\t"),
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".parquet": _read_parquet,
}
