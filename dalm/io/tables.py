"""Read a table: a csv, tsv, jsonl, json or parquet file, a saved dataset or one on the hub."""

import logging
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from dalm.errors import UserError, one_line
from dalm.io.cell_values import value_at
from dalm.io.table import Table, nested, plain_columns, reading
from dalm.io.table_files import READERS, Row, Rows, UnreadRow, kind, read_rows
from dalm.io.text_lines import check_encoding

__all__ = ["NAMED", "OnError", "Table", "kind", "one_line", "read_file", "read_table"]

logger = logging.getLogger(__name__)

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:.+)?")
NAMED = 5
"""Unread rows that are named in the log, each with the reason."""

OnError = Literal["raise", "skip"]


def read_table(
    source: str | Path, *, encoding: str | None = None, on_error: OnError = "skip"
) -> Table:
    """Read csv, tsv, jsonl, json, parquet, a folder of `save_to_disk`, or `owner/name[:split]`.

    csv, tsv, jsonl and json may be compressed (`.gz`) and in any `encoding`; by default UTF-8, or
    UTF-16 and UTF-32 by their byte order marks. A hub dataset's split is `train` unless it is
    named. Nothing in a text file stands for a missing value: `NA` is a text. A row that can't be
    read is named, counted and passed over; with `on_error="raise"` it is an error.

    Raises UserError when the source is missing, of another kind, broken or empty.
    """
    path = Path(source).expanduser()
    check_encoding(encoding)
    if path.is_dir() and str(source).strip():
        table = _read_saved(path)
    elif path.is_file():
        table = read_file(path, encoding=encoding, on_error=on_error)
    elif _is_hub_name(str(source)):
        table = _read_hub(str(source))
    else:
        raise UserError(f"no file or folder {str(source)!r}; {_remedy(path)}")
    if repeated := sorted({name for name in table.columns if table.columns.count(name) > 1}):
        raise UserError(
            f"{table.name} has more than one column {repeated[0]!r}; rename all but one"
        )
    if not table.rows:
        raise UserError(f"{table.name} is empty; it needs a row for each example or passage")
    return table


# Files


def read_file(path: Path, *, encoding: str | None = None, on_error: OnError = "skip") -> Table:
    """Read a file by its extension, as `read_table` does; a file without rows is a table, too.

    Raises UserError when the extension is unknown, the file broken or none of its rows readable.
    """
    with reading(path):
        if kind(path) == ".parquet":
            return _read_parquet(path)
        rows = read_rows(path, encoding=encoding)
        found = rows.rows if on_error == "skip" else _strict(rows)
        return _by_columns(path, rows, found) if rows.columns else _by_rows(path, rows, found)


def _strict(rows: Rows) -> Iterator[Row | UnreadRow]:
    for row in rows.rows:
        if isinstance(row, UnreadRow):
            raise UserError(_place(rows, row))
        yield row


def _place(rows: Rows, row: UnreadRow) -> str:
    return f"{rows.unit} {row.number}, {row.reason}" if row.number else row.reason


class _Unread:
    """Log rows that can't be read as they come, and refuse a file that has no others."""

    def __init__(self, path: Path, rows: Rows) -> None:
        self.path, self.rows = path, rows
        self.count = 0
        self.first = ""

    def add(self, row: UnreadRow) -> None:
        self.first = self.first or _place(self.rows, row)
        if self.count < NAMED:
            logger.warning("unread     %s, %s", self.path, _place(self.rows, row))
        self.count += 1

    def report(self, read: int) -> None:
        if self.count and not read:
            raise UserError(f"none of its {self.count} rows can be read; {self.first}")
        if self.count:
            logger.warning(
                "unread     %d of %d rows of %s", self.count, self.count + read, self.path
            )


def _by_columns(path: Path, rows: Rows, found: Iterable[Row | UnreadRow]) -> Table:
    """Gather rows that all have the columns of a header."""
    assert rows.columns is not None
    columns: dict[str, list[object]] = {name: [] for name in rows.columns}
    appends = [(name, cells.append) for name, cells in columns.items()]
    numbers, unread = array("Q"), _Unread(path, rows)
    for row in found:
        if isinstance(row, UnreadRow):
            unread.add(row)
            continue
        numbers.append(row.number)
        for name, append in appends:
            append(row.cells[name])
    unread.report(len(numbers))
    return Table(
        str(path),
        rows.columns,
        len(numbers),
        columns.__getitem__,
        unread=unread.count,
        unit=rows.unit,
        numbers=numbers,
        plain=rows.columns,
    )


def _by_rows(path: Path, rows: Rows, found: Iterable[Row | UnreadRow]) -> Table:
    """Gather the objects of a JSON file."""
    numbers, unread = array("Q"), _Unread(path, rows)
    cells: list[dict[str, object]] = []
    for row in found:
        if isinstance(row, UnreadRow):
            unread.add(row)
            continue
        numbers.append(row.number)
        cells.append(row.cells)
    unread.report(len(cells))
    names = tuple(dict.fromkeys(name for row in cells for name in row))
    return Table(
        str(path),
        names,
        len(cells),
        lambda name: [value_at(row, name) for row in cells],
        unread=unread.count,
        unit=rows.unit,
        numbers=numbers,
        plain=names,
    )


def _read_parquet(path: Path) -> Table:
    from pyarrow.parquet import ParquetFile

    def column(name: str) -> Sequence[object]:
        with reading(path), ParquetFile(path) as file:
            cells: list[object] = file.read(columns=[name]).column(0).to_pylist()
            return cells

    with ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    names = tuple(schema.names)
    return Table(str(path), names, rows, nested(names, column), plain=plain_columns(schema))


# Datasets


def _read_saved(path: Path) -> Table:
    import datasets

    with reading(path):
        try:
            saved = datasets.load_from_disk(str(path))
        except FileNotFoundError as error:
            inside = sorted(entry.name for entry in path.iterdir() if kind(entry) in READERS)
            remedy = f"name one of its files: {', '.join(inside)}" if inside else "name a file"
            raise UserError(f"{path} holds no saved dataset; {remedy}") from error
    if not isinstance(saved, datasets.DatasetDict):
        return _dataset_table(str(path), saved)
    if "train" not in saved and len(saved) != 1:
        splits = ", ".join(str(path / split) for split in saved)
        raise UserError(f"{path} has no train split; name the folder of one: {splits}")
    return _dataset_table(str(path), saved["train" if "train" in saved else next(iter(saved))])


def _read_hub(source: str) -> Table:
    import datasets

    name, _, split = source.partition(":")
    try:
        return _dataset_table(source, datasets.load_dataset(name, split=split or "train"))
    except Exception as error:  # network, authorisation, split, configuration, decoding …
        raise UserError(
            f"no file or folder {source!r}; taken for a dataset on the Hugging Face hub, "
            f"it could not be loaded: {one_line(error)}; "
            "check the name, the split (owner/name:split) and the connection"
        ) from error


def _dataset_table(name: str, dataset: Any) -> Table:
    dataset = dataset.with_format(None)  # a saved torch or numpy format would change the values

    def column(column_name: str) -> Sequence[object]:
        with reading(name):
            cells: list[object] = dataset[column_name][:]
            return cells

    names = tuple(dataset.column_names)
    plain = plain_columns(dataset.features.arrow_schema)
    return Table(name, names, len(dataset), nested(names, column), plain=plain)


def _is_hub_name(source: str) -> bool:
    """Tell whether a source that is no file may be a dataset on the hub.

    `owner/name` always: a bare word would make `load_dataset` read whatever lies in the working
    directory (`csv`, `json`), and an owner that is a folder here is a mistyped path.
    """
    folder, path = Path(source).parent, Path(source)
    return bool(HUB_NAME.fullmatch(source)) and kind(path) not in READERS and not folder.exists()


def _remedy(missing: Path) -> str:
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    near = get_close_matches(missing.name, [entry.name for entry in folder.iterdir()])
    if near:
        return f"did you mean {', '.join(str(folder / name) for name in near)}?"
    return "check the path; a dataset on the Hugging Face hub is written owner/name"
