"""Read the rows of table files one after the other: csv, tsv, jsonl, json and parquet."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dalm.errors import UserError
from dalm.io.cell_values import CellError, check_surrogates, kind_of
from dalm.io.text_lines import BrokenLineError, UnreadableError, read_lines, too_large

Line = tuple[int, str | BrokenLineError]
Lines = Iterator[Line]

FIELD_LIMIT = 2**31 - 1  # characters in a csv field; the largest that every platform's long holds
MOST_COLUMNS = 10_000
_PARQUET_BATCH = 1024  # rows
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

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


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file, to be gone through once.

    `columns` are those of the header; None for JSON, whose rows name their own. Numbers count
    `unit`: lines of a text file, items of a JSON list, rows of a parquet file.
    """

    columns: tuple[str, ...] | None
    unit: Unit
    rows: Iterator[Row | UnreadRow]


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
) -> Rows:
    """Open a table file by its extension; csv, tsv, jsonl and json may be compressed (`.gz`).

    A row that can't be read is passed over and yielded as an `UnreadRow`: a broken line of JSON,
    a csv row with more fields than the header. Nothing in a text file stands for a missing value.
    `select` picks from the columns of a file with a header; others of a parquet file cost nothing.

    Raises:
        UserError: the extension is unknown.
        UnreadableError: while the rows are gone through, too: nothing more of the file can be
            read. A quote that is never closed is one, for it would swallow rows in silence.
    """
    if kind(path) not in READERS:
        raise UserError(f"unknown extension {path.suffix!r}; read are {', '.join(READERS)}")
    if kind(path) == ".parquet":
        return _parquet_rows(path, select)
    numbered = read_lines(path, encoding, max_bytes)
    if kind(path) in DELIMITERS:
        return _delimited_rows(numbered, DELIMITERS[kind(path)], select)
    return _json_rows(numbered, by_line=kind(path) != ".json", max_bytes=max_bytes)


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


def _whole(lines: Lines) -> Iterator[str]:
    """Yield the lines of a file that is worth nothing without each of them."""
    for _, line in lines:
        if isinstance(line, BrokenLineError):
            raise line
        yield line


# csv and tsv


def _delimited_rows(lines: Lines, delimiter: str, select: Select) -> Rows:
    # Strict, for otherwise a quote that is never closed swallows the rest of the file in silence.
    reader = csv.reader(_whole(lines), delimiter=delimiter, strict=True)
    header = _header([name.strip() for name in _next_row(reader) or ()], delimiter)
    names = tuple(name for name in header if name)  # pandas leaves its index without a name
    check_columns(names)
    first = {name: place for place, name in reversed(list(enumerate(header)))}
    places = {name: first[name] for name in select(names)}
    return Rows(names, "line", _cells_by_name(reader, places, len(header)))


def _cells_by_name(reader: Any, places: dict[str, int], width: int) -> Iterator[Row | UnreadRow]:
    while (row := _next_row(reader)) is not None:
        if any(row[width:]):
            yield UnreadRow(
                reader.line_num,
                f"a row of {len(row)} fields, the header has {width}; put quotes around a field "
                "with a separator in it",
            )
            continue
        if len(row) < width:
            row += [""] * (width - len(row))
        yield Row(reader.line_num, {name: row[place] for name, place in places.items()})


def _next_row(reader: Any) -> list[str] | None:
    """Return the next row that isn't blank, None at the end."""
    begun = reader.line_num + 1
    limit = csv.field_size_limit(FIELD_LIMIT)
    try:
        for row in reader:
            if row:
                found: list[str] = row
                return found
            begun = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableError(
            f"the quotes of a row from line {begun} on are broken ({error}); quote the "
            'whole field and write a quote inside it twice: ""'
        ) from error
    finally:
        csv.field_size_limit(limit)  # the limit belongs to the process, not to this reader
    return None


def _header(header: list[str], delimiter: str) -> list[str]:
    if not any(header):
        raise UnreadableError("it is empty; its first line must name the columns")
    others = [mark for mark in ",;\t|" if mark != delimiter]
    if len(header) == 1 and (found := [mark for mark in others if mark in header[0]]):
        raise UnreadableError(
            f"its columns seem to be separated by {found[0]!r}, not by {delimiter!r}; "
            "save it as .csv with commas or as .tsv with tabs"
        )
    return header


# JSON


def _json_rows(lines: Lines, *, by_line: bool, max_bytes: int | None) -> Rows:
    """Read an object a line, or the items of one list; `by_line` says which is the likelier.

    A list has to be read as a whole. A text in the place of an object is its column `text`.
    """
    first: list[Line] = []
    start = ""
    for number, line in lines:
        first.append((number, line))
        start = line.lstrip() if isinstance(line, str) else "?"
        if start:
            break
    if not start:
        return Rows(None, "line", iter(()))
    lines = chain(first, lines)
    if by_line and not start.startswith("["):
        return Rows(None, "line", _objects_by_line(lines))
    held = _held(lines, max_bytes)
    try:
        text = "".join(_whole(iter(held)))
        parsed = _parsed(text)
    except UnreadableError:
        if not _is_json(start) or not any(
            not isinstance(line, str) or line.strip() for _, line in held[len(first) :]
        ):
            raise
        return Rows(None, "line", _objects_by_line(iter(held)))
    read = partial(_object, has_escapes=_SURROGATE.search(text) is not None)
    if isinstance(parsed, list):
        return Rows(None, "item", map(read, range(1, len(parsed) + 1), parsed))
    return Rows(None, "item", map(read, [0], [parsed]))


def _held(lines: Lines, max_bytes: int | None) -> list[Line]:
    """Keep a file's lines, up to a limit."""
    held, size = [], 0
    for number, line in lines:
        size += len(line) if isinstance(line, str) else 0
        if max_bytes is not None and size > max_bytes:
            raise too_large(max_bytes)
        held.append((number, line))
    return held


def _objects_by_line(lines: Lines) -> Iterator[Row | UnreadRow]:
    for number, line in lines:
        if isinstance(line, BrokenLineError):
            yield UnreadRow(number, line.reason)
        elif line.strip():
            try:
                has_escapes = _SURROGATE.search(line) is not None
                yield _object(number, _parsed(line.rstrip()), has_escapes=has_escapes)
            except UnreadableError as error:
                yield UnreadRow(number, str(error).removeprefix("line 1, "))


def _object(number: int, value: object, *, has_escapes: bool) -> Row | UnreadRow:
    if has_escapes:  # otherwise there can be no surrogate
        try:
            check_surrogates(json.dumps(value, ensure_ascii=False))
        except (CellError, RecursionError) as error:
            return UnreadRow(number, str(error))
    if isinstance(value, dict):
        return Row(number, value)
    if isinstance(value, str):
        return Row(number, {"text": value})
    return UnreadRow(number, f"{kind_of(value)}, not an object with a value for each column")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"line {error.lineno}, character {error.colno}: broken JSON ({error.msg}); write one "
            "object a line, or one list of objects"
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nest too large to read
        raise UnreadableError(f"broken JSON ({error})") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


# Parquet


def _parquet_rows(path: Path, select: Select) -> Rows:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        names = tuple(file.schema_arrow.names)
    check_columns(names)
    chosen = list(select(names))

    def rows() -> Iterator[Row | UnreadRow]:
        number = 0
        with ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_BATCH, columns=chosen):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(number, cells)

    return Rows(names, "row", rows())


DELIMITERS = {".csv": ",", ".tsv": "\t"}
READERS = (*DELIMITERS, ".jsonl", ".ndjson", ".json", ".parquet")
