"""Write tables: csv, tsv, jsonl or parquet, and the columns of negatives and provenance."""

import csv
import gzip
import io
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any, cast

from dalm.artifacts import check_file, write_file
from dalm.errors import UserError, reason_of
from dalm.io.cell_values import cell_text, whole
from dalm.io.columns import negative_columns
from dalm.io.table_files import kind
from dalm.io.tables import Table
from dalm.progress import track
from dalm.records import PROVENANCE, Passage

Columns = Mapping[str, Sequence[object]]

LISTED = "Negatives"
NUMBERED = "Negative {}"
SCORES = "Negative scores"
GOLD_SCORE = "Gold score"


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
    yield from track(zip(*columns.values(), strict=True), total, "writing", "rows")


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
                f"column {name!r} can't be written as parquet: {reason_of(error)}; "
                "name a .jsonl file"
            ) from error
    write(pyarrow.table(arrays), out)


def _cell(cell: object) -> str:
    """Return a cell as `read_table` reads it back, with blanks for NULs, which it refuses."""
    if isinstance(cell, str):
        return cell.replace("\0", " ")
    if _without_nan(cell) is None:
        return ""
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return _json(whole(cell))


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


# Columns


def columns_with_negatives(
    table: Table,
    negatives: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
    gold_scores: Sequence[float | None],
    *,
    numbered: bool,
) -> dict[str, Sequence[object]]:
    """Return a table's columns followed by each row's negatives and their scores.

    Negatives are lists in one column or, for a format without lists, in `numbered` columns, which
    are empty where a row has fewer; scores are a JSON list there. Columns of an earlier mining are
    dropped.
    """
    pattern = re.compile(NUMBERED.format(r"\d+"))
    earlier = {name for name in table.columns if pattern.fullmatch(name)}
    earlier |= {*negative_columns(table, LISTED), SCORES, GOLD_SCORE}
    columns: dict[str, Sequence[object]] = {
        name: table.column(name) for name in table.columns if name not in earlier
    }
    if numbered:
        for place in range(max(map(len, negatives), default=0)):
            columns[NUMBERED.format(place + 1)] = [
                texts[place] if place < len(texts) else None for texts in negatives
            ]
    else:
        columns[LISTED] = [list(texts) for texts in negatives]
    columns[SCORES] = [[round(score, 6) for score in row] for row in scores]
    columns[GOLD_SCORE] = [None if score is None else round(score, 6) for score in gold_scores]
    return columns


def columns_of_provenance(
    passages: Sequence[Passage], taken: Collection[str] = ()
) -> dict[str, list[object]]:
    """Return the provenance of a table's passages, row by row, as columns that readers find again.

    Columns in which nothing is known are left out, and so are further columns with a name that is
    `taken`.
    """
    rows = [passage.provenance() for passage in passages]
    names = dict.fromkeys(name for row in rows for name in row)
    further = [name for name in names if name not in PROVENANCE and name not in taken]
    columns: dict[str, list[object]] = {}
    for name in (*(name for name in PROVENANCE if name in names), *further):
        cells = [row.get(name) for row in rows]
        kinds = {type(cell) for cell in cells if cell is not None}
        # Parquet and saved datasets have one kind of value in a column.
        if len(kinds) > 1:
            cells = [None if cell is None else cell_text(cell) for cell in cells]
        columns[name] = cells
    return columns
