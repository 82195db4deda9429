"""Columns in, a file out: csv, tsv, jsonl or parquet, whole or not at all."""

import csv
import gzip
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any, TextIO

from dalm.errors import UserError, one_line
from dalm.io.table_files import kind
from dalm.progress import track

Columns = Mapping[str, Sequence[object]]


def check_output_file(path: Path, overwrite: bool, option: str = "--output") -> None:
    """Refuse a file that couldn't be written in the end.

    Raises:
        UserError: an ending that isn't written, a folder, a file that is there, or no right.
    """
    if kind(path) not in WRITERS:
        endings = ", ".join(WRITERS)
        raise UserError(f"{option} {path}: unknown ending {path.suffix!r}; written are {endings}")
    if path.is_dir():
        raise UserError(f"{option} {path}: a folder; name a file")
    if path.exists() and not overwrite:
        raise UserError(f"{option} {path} exists; name another file, or add --overwrite-output")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir():
        raise UserError(f"{option} {path}: {there} is a file; name another path")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: no right to write to {there}; name another path")


def write_table(path: Path, columns: Columns) -> None:
    """Write columns of one length by the ending of the file's name; text may be packed (`.gz`).

    jsonl and parquet keep lists and numbers; in csv and tsv a list is written as JSON, and a
    missing value as an empty cell. The file appears when it is whole. Raises UserError for a value
    that the format can't hold, and for a disk that can't be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        WRITERS[kind(path)](growing, columns, path.suffix.lower() == ".gz")
        growing.replace(path)
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise UserError(
            f"{path} can't be written: {half} is half a character; remove it"
        ) from error
    except OSError as error:
        raise UserError(f"{path} can't be written: {one_line(error)}") from error
    finally:
        growing.unlink(missing_ok=True)


def _rows(columns: Columns) -> Iterator[tuple[object, ...]]:
    total = len(next(iter(columns.values())))
    yield from track(zip(*columns.values(), strict=True), total, "writing", "row")


def _write_json(path: Path, columns: Columns, packed: bool) -> None:
    with _text(path, packed) as out:
        for row in _rows(columns):
            cells = {name: _without_nan(cell) for name, cell in zip(columns, row, strict=True)}
            out.write(_json(cells) + "\n")


def _write_delimited(path: Path, columns: Columns, packed: bool, delimiter: str) -> None:
    with _text(path, packed) as out:
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows([_cell(cell) for cell in row] for row in _rows(columns))


def _write_parquet(path: Path, columns: Columns, packed: bool) -> None:  # noqa: ARG001
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
    write(pyarrow.table(arrays), path)


def _text(path: Path, packed: bool) -> IO[str] | TextIO:
    if packed:
        return gzip.open(path, "wt", encoding="utf-8", newline="")
    return path.open("w", encoding="utf-8", newline="")


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


WRITERS: dict[str, Callable[[Path, Columns, bool], None]] = {
    ".csv": lambda path, columns, packed: _write_delimited(path, columns, packed, ","),
    ".tsv": lambda path, columns, packed: _write_delimited(path, columns, packed, "\t"),
    ".jsonl": _write_json,
    ".parquet": _write_parquet,
}
