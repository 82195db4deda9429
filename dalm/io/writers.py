"""Write tables: csv, tsv, jsonl or parquet, complete or not at all."""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any, cast

from dalm.artifacts import check_file, write_file
from dalm.errors import UserError, one_line
from dalm.io.table_files import kind
from dalm.progress import track

Columns = Mapping[str, Sequence[object]]


def check_output_file(path: Path, overwrite: bool, option: str = "--output") -> None:
    """Refuse a file that could not be written in the end.

    Raises:
        UserError: an ending that isn't written, a folder, a file that exists, or no right.
    """
    if kind(path) not in WRITERS:
        endings = ", ".join(WRITERS)
        raise UserError(f"{option} {path}: unknown ending {path.suffix!r}; written are {endings}")
    check_file(option, path, overwrite, "--overwrite-output")


def write_table(path: Path, columns: Columns) -> None:
    """Write columns of one length by the ending of the file's name; text may be packed (`.gz`).

    jsonl and parquet keep lists and numbers; in csv and tsv a list is written as JSON, and a
    missing value as an empty cell. The file appears when it is complete. Raises UserError for a
    value that the format can't hold, and for a disk that can't be written to.
    """
    with write_file(path, "wb") as file, ExitStack() as opened:
        out: IO[bytes] = file
        if path.suffix.lower() == ".gz":
            packed = gzip.GzipFile(path.stem, "wb", fileobj=file)
            out = cast("IO[bytes]", opened.enter_context(packed))
        try:
            WRITERS[kind(path)](out, columns)
        except UnicodeEncodeError as error:
            surrogate = ascii(error.object[error.start])
            raise UserError(
                f"{path} can't be written: {surrogate} is an unpaired surrogate; remove it"
            ) from error


def _rows(columns: Columns) -> Iterator[tuple[object, ...]]:
    total = len(next(iter(columns.values())))
    yield from track(zip(*columns.values(), strict=True), total, "writing", "row")


def _write_json(out: IO[bytes], columns: Columns) -> None:
    for row in _rows(columns):
        cells = {name: _without_nan(cell) for name, cell in zip(columns, row, strict=True)}
        out.write(f"{_json(cells)}\n".encode())


def _write_delimited(out: IO[bytes], columns: Columns, delimiter: str) -> None:
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows([_cell(cell) for cell in row] for row in _rows(columns))
    finally:
        text.detach()  # flushed, and left open for whoever opened it


def _write_parquet(out: IO[bytes], columns: Columns) -> None:
    import pyarrow
    from pyarrow.parquet import write_table as write

    arrays = {}
    for name, cells in columns.items():
        try:
            arrays[name] = pyarrow.array(cells)
        except (pyarrow.ArrowException, TypeError) as error:
            raise UserError(
                f"column {name!r} can't be written as parquet: {one_line(error)}; "
                "name a .jsonl file"
            ) from error
    write(pyarrow.table(arrays), out)


def _cell(cell: object) -> str:
    """Return a cell as `read_table` reads it back."""
    if isinstance(cell, str):
        return cell
    if _without_nan(cell) is None:
        return ""
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return _json(cell)


def _without_nan(cell: object) -> object:
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _json(value: object) -> str:
    def refuse(inner: Any) -> str:
        if isinstance(inner, datetime | date | time):
            return inner.isoformat()
        raise UserError(
            f"a value of type {type(inner).__name__} can't be written as text; "
            "name a .parquet file, or take its column out of the table"
        )

    return json.dumps(value, ensure_ascii=False, default=refuse)


WRITERS: dict[str, Callable[[IO[bytes], Columns], None]] = {
    ".csv": lambda out, columns: _write_delimited(out, columns, ","),
    ".tsv": lambda out, columns: _write_delimited(out, columns, "\t"),
    ".jsonl": _write_json,
    ".parquet": _write_parquet,
}
