"""Read the rows of table files one after the other: csv, tsv, jsonl, json and parquet."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dalm.errors import UserError, reason_of
from dalm.io.delimited_rows import BrokenRow, DelimitedRows, find_delimiter
from dalm.io.json_rows import json_rows
from dalm.io.row_types import Reading, Row, Rows, Select, UnreadRow, check_columns
from dalm.io.text_lines import Line, UnreadableError, read_lines

_PARQUET_BATCH = 1024  # rows


def kind(path: Path) -> str:
    """Return the extension that says how to read a file: `.csv` for `a.CSV` and `a.csv.gz`."""
    suffix = path.suffix.lower()
    packed = Path(path.stem).suffix.lower()
    return packed if suffix == ".gz" and packed in READERS and packed != ".parquet" else suffix


def read_rows(
    path: Path,
    *,
    encoding: str | None = None,
    max_bytes: int | None = None,
    select: Select = lambda names: names,
    recover: bool = False,
) -> Rows:
    """Open a table file by its extension; csv, tsv, jsonl and json may be compressed (`.gz`).

    A row that can't be read is passed over and yielded as an `UnreadRow`: a broken line of JSON,
    a csv row with more fields than the header. With `recover` so are rows after which it is not
    sure where the next one begins: those with broken quotes, with lines that can't be decoded or
    are too long, damaged parts of parquet. Nothing in a text file stands for a missing value. The
    columns of csv and tsv are separated by the mark that fits the first rows, or by that of a line
    such as `sep=;`. `select` picks from the columns of a file with a header; others of a parquet
    file cost nothing.

    Raises:
        UserError: the extension is unknown.
        UnreadableError: while the rows are gone through, too: nothing more of the file can be
            read. A quote that is never closed is one, for it would swallow rows in silence.
    """
    if kind(path) not in READERS:
        raise UserError(f"unknown extension {path.suffix!r}; read are {', '.join(READERS)}")
    reading = Reading(max_bytes, recover)
    if kind(path) == ".parquet":
        return _parquet_rows(path, select, recover=recover)
    numbered = read_lines(path, encoding, max_bytes, recover=recover)
    if kind(path) in DELIMITERS:
        return _delimited_rows(numbered, DELIMITERS[kind(path)], select, reading)
    return json_rows(numbered, reading, by_line=kind(path) != ".json")


# csv and tsv


def _delimited_rows(
    lines: Generator[Line, None, None], default: str, select: Select, reading: Reading
) -> Rows:
    with ExitStack() as opened:
        opened.callback(lines.close)  # else whoever holds an error holds the file open
        delimiter, whole = find_delimiter(lines, default)
        rows = iter(
            DelimitedRows(whole, delimiter, recover=reading.recover, max_bytes=reading.max_bytes)
        )
        _, first = next(rows, (0, list[str]()))
        assert not isinstance(first, BrokenRow), "without a header nothing is recovered"
        header = [name.strip() for name in first]
        if not any(header):
            raise UnreadableError("it is empty; its first line must name the columns")
        names = tuple(name for name in header if name)  # pandas leaves its index without a name
        check_columns(names)
        first_place = {name: place for place, name in reversed(list(enumerate(header)))}
        places = {name: first_place[name] for name in select(names)}
        file = opened.pop_all()

    def cells() -> Iterator[Row | UnreadRow]:
        with file:
            yield from _cells_by_name(rows, places, len(header))

    return Rows(names, "line", cells())


def _cells_by_name(
    rows: Iterable[tuple[int, list[str] | BrokenRow]], places: dict[str, int], width: int
) -> Iterator[Row | UnreadRow]:
    for number, row in rows:
        if isinstance(row, BrokenRow):
            yield UnreadRow(number, row.reason)
            continue
        if any(row[width:]):
            yield UnreadRow(
                number,
                f"a row of {len(row)} fields, the header has {width}; put quotes around a field "
                "with a separator in it",
            )
            continue
        padded = row if len(row) >= width else row + [""] * (width - len(row))
        yield Row(number, {name: padded[place] for name, place in places.items()})


# Parquet


def _parquet_rows(path: Path, select: Select, *, recover: bool) -> Rows:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        names = tuple(file.schema_arrow.names)
    check_columns(names)
    chosen = list(select(names))

    def rows() -> Iterator[Row | UnreadRow]:
        number = 0
        with ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                end = number + file.metadata.row_group(group).num_rows
                try:
                    for batch in file.iter_batches(
                        _PARQUET_BATCH, row_groups=[group], columns=chosen
                    ):
                        yield from _batch_rows(batch, number, recover=recover)
                        number += batch.num_rows
                except Exception as error:  # whatever Arrow finds in damaged pages
                    if not recover:
                        raise
                    yield UnreadRow(
                        number + 1, f"rows {number + 1} to {end} are damaged ({reason_of(error)})"
                    )
                number = end

    return Rows(names, "row", rows())


def _batch_rows(batch: Any, number: int, *, recover: bool) -> Iterator[Row | UnreadRow]:
    try:
        cells = batch.to_pylist()
    except UnicodeDecodeError:
        if not recover:
            raise
        for i in range(batch.num_rows):
            try:
                [row] = batch.slice(i, 1).to_pylist()
                yield Row(number + i + 1, row)
            except UnicodeDecodeError as error:
                yield UnreadRow(number + i + 1, f"a text that is not UTF-8 ({error.reason})")
        return
    for i, row in enumerate(cells, number + 1):
        yield Row(i, row)


DELIMITERS = {".csv": ",", ".tsv": "\t"}
READERS = (*DELIMITERS, ".jsonl", ".ndjson", ".json", ".parquet")
