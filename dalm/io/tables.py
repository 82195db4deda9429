"""Read a table: a csv, tsv, jsonl, json or parquet file, a saved dataset or one on the hub."""

import logging
import re
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dalm import progress
from dalm.errors import UserError, reason_of
from dalm.file_reading import user_path
from dalm.io.cell_values import CellError, cell_text, value_at
from dalm.io.row_types import Row, Rows, Unit, check_columns
from dalm.io.table_files import READERS, kind, read_rows
from dalm.io.text_encoding import check_encoding

logger = logging.getLogger(__name__)

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:.+)?")
NAMED = 5
"""Unread rows that are named in the log, each with the reason."""
PLAIN_TYPES = re.compile(
    r"(large_)?string(_view)?|bool|u?int\d+|(half_)?float|double|decimal.*|date.*|timestamp.*"
)
"""Arrow's types of texts, numbers, booleans and dates."""


@dataclass(frozen=True)
class Table:
    """A table's cells by columns.

    `read(name)` reads the cells of one column, row 1 first: images or vectors beside the texts cost
    nothing. `numbers` are the places of the rows in the file, counted in `unit`s; rows that could
    not be read have none. `plain` are columns of texts, numbers and booleans, as far as is known
    without reading them.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    read: Callable[[str], Sequence[object]]
    unit: Unit = "row"
    numbers: Sequence[int] | None = None
    plain: tuple[str, ...] = ()

    def column(self, name: str) -> Sequence[object]:
        """Return the cells of a column, or the values at a path into nested JSON: `body.text`."""
        root = name.partition(".")[0]
        if name in self.columns or root not in self.columns:
            return self.read(name)
        return [value_at({root: cell}, name) for cell in self.read(root)]

    def place(self, row: int) -> str:
        """Return where a row stands in the file, as in `line 5`; `row` counts from 0."""
        return f"{self.unit} {(self.numbers[row] if self.numbers else row + 1) or 1}"

    def has(self, name: str) -> bool:
        """Tell whether there is such a column, or a value at such a path into nested JSON."""
        if name in self.columns or name.partition(".")[0] not in self.columns:
            return name in self.columns
        cells = self.read(name.partition(".")[0])  # one by one: there may be millions
        return any(value_at({name.partition(".")[0]: cell}, name) is not None for cell in cells)

    def records(self, names: Collection[str]) -> Iterator[dict[str, object]]:
        """Yield the cells of some columns row by row; for a path, those that it begins at."""
        roots = (name if name in self.columns else name.partition(".")[0] for name in names)
        chosen = [root for root in dict.fromkeys(roots) if root in self.columns]
        for cells in zip(*map(self.column, chosen), strict=True):
            yield dict(zip(chosen, cells, strict=True))

    def bad_cell(self, row: int, column: str, problem: object) -> UserError:
        """Return the error for a cell: where it is, what is wrong and what to do."""
        return UserError(f"{self.name}, {self.place(row)}, column {column!r}: {problem}")

    def texts(self, column: str) -> list[str]:
        """Return a column's cells as texts; what is missing or blank becomes the empty text.

        Raises:
            UserError: a cell that is no text; it names the place.
        """
        texts: list[str] = []
        for row, cell in enumerate(self.column(column)):
            try:
                texts.append(cell_text(cell))
            except CellError as error:
                raise self.bad_cell(row, column, error) from None
        return texts


def read_table(source: str | Path, *, encoding: str | None = None) -> Table:
    """Read csv, tsv, jsonl, json, parquet, a folder of `save_to_disk`, or `owner/name[:split]`.

    csv, tsv, jsonl and json may be compressed (`.gz`) and in any `encoding`; by default UTF-8, or
    UTF-16 and UTF-32 by their byte order marks. A hub dataset's split is `train` unless it is
    named. Nothing in a text file stands for a missing value: `NA` is a text. A row that can't be
    read is named, counted and passed over.

    Raises UserError when the source is missing, of another kind, broken or empty.
    """
    check_encoding(encoding)
    if "://" in str(source):
        raise UserError(f"{source}: an address, not a file; download it and name the file")
    path = user_path(source)
    if path.is_dir() and str(source).strip():
        table = _read_saved(path)
    elif path.is_file():
        table = read_file(path, encoding=encoding)
    elif _is_hub_name(str(source)):
        table = _read_hub(str(source))
    else:
        raise UserError(f"no file or folder {str(source)!r}; {_remedy(path)}")
    if not table.rows:
        raise empty(table.name)
    return table


def empty(name: str) -> UserError:
    """Return the error for a table without rows."""
    return UserError(f"{name} is empty; it needs a row for each example or passage")


# Files


def read_file(path: Path, *, encoding: str | None = None) -> Table:
    """Read a file by its extension, as `read_table` does; a file without rows is a table, too.

    Raises UserError when the extension is unknown, the file broken or none of its rows readable.
    """
    with reading(path):
        if kind(path) == ".parquet":
            return _read_parquet(path)
        rows = read_rows(path, encoding=encoding)
        return _by_columns(path, rows, rows.columns) if rows.columns else _by_rows(path, rows)


def _by_columns(path: Path, rows: Rows, names: tuple[str, ...]) -> Table:
    """Gather rows that all have the columns of a header."""
    columns: dict[str, list[object]] = {name: [] for name in names}
    appends = [(name, cells.append) for name, cells in columns.items()]
    numbers = array("Q")
    for row in readable(path, rows):
        numbers.append(row.number)
        for name, append in appends:
            append(row.cells[name])
    return Table(
        str(path), names, len(numbers), columns.__getitem__, rows.unit, numbers, plain=names
    )


def _by_rows(path: Path, rows: Rows) -> Table:
    """Gather the objects of a JSON file."""
    numbers = array("Q")
    cells: list[dict[str, object]] = []
    for row in readable(path, rows):
        numbers.append(row.number)
        cells.append(row.cells)
    names = tuple(dict.fromkeys(name for row in cells for name in row))
    check_columns(names)

    def column(name: str) -> Sequence[object]:
        return [value_at(row, name) for row in cells]

    return Table(str(path), names, len(cells), column, rows.unit, numbers, plain=names)


def readable(path: Path, rows: Rows) -> Iterator[Row]:
    """Yield the rows that can be read; log the others, and refuse a file that has no others."""
    read = unread = 0
    first = ""
    for row in rows.rows:
        if isinstance(row, Row):
            read += 1
            yield row
            continue
        problem = f"{rows.unit} {row.number}, {row.reason}" if row.number else row.reason
        first = first or problem
        if unread < NAMED:
            logger.warning("unread     %s, %s", path, problem)
        unread += 1
    if unread and not read:
        raise UserError(f"none of its {unread} rows can be read; {first}")
    if unread:
        logger.warning("unread     %d of %d rows of %s", unread, unread + read, path)


def _read_parquet(path: Path) -> Table:
    from pyarrow.parquet import ParquetFile

    def column(name: str) -> Sequence[object]:
        with reading(path), ParquetFile(path) as file:
            cells: list[object] = file.read(columns=[name]).column(0).to_pylist()
            return cells

    with ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    names = tuple(schema.names)
    check_columns(names)
    return Table(str(path), names, rows, column, plain=plain_columns(schema))


# Datasets


def _read_saved(path: Path) -> Table:
    import datasets

    with reading(path), progress.quiet_bars():
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
            f"it could not be loaded: {reason_of(error)}; "
            "check the name, the split (owner/name:split) and the connection"
        ) from error


def _dataset_table(name: str, dataset: Any) -> Table:
    dataset = dataset.with_format(None)  # a saved torch or numpy format would change the values

    def column(column_name: str) -> Sequence[object]:
        with reading(name):
            cells: list[object] = dataset[column_name][:]
            return cells

    names = tuple(dataset.column_names)
    check_columns(names)
    plain = plain_columns(dataset.features.arrow_schema)
    return Table(name, names, len(dataset), column, plain=plain)


def plain_columns(schema: Any) -> tuple[str, ...]:
    """Return an Arrow schema's columns of texts, numbers, booleans and dates.

    A dictionary's values count: pandas writes categories so.
    """
    return tuple(field.name for field in schema if PLAIN_TYPES.fullmatch(_held(field.type)))


def _held(kind: Any) -> str:
    return str(kind.value_type if str(kind).startswith("dictionary<") else kind)


def _is_hub_name(source: str) -> bool:
    """Tell whether a source that is no file may be a dataset on the hub.

    `owner/name` always: a bare word would make `load_dataset` read whatever lies in the working
    directory (`csv`, `json`), and an owner that is a folder here is a mistyped path.
    """
    folder, path = Path(source).parent, Path(source)
    return bool(HUB_NAME.fullmatch(source)) and kind(path) not in READERS and not folder.exists()


def _remedy(missing: Path) -> str:
    if missing.exists() and not missing.is_dir():
        return "it is a device or a pipe; save what it gives to a file"
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    near = get_close_matches(missing.name, [entry.name for entry in folder.iterdir()])
    if near:
        return f"did you mean {', '.join(str(folder / name) for name in near)}?"
    return "check the path; a dataset on the Hugging Face hub is written owner/name"


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Put the source's name before an error, whatever library raises it over a broken file."""
    try:
        yield
    except UserError as error:
        message = str(error)
        if message.startswith(str(source)):
            raise
        raise UserError(f"{source}: {message}") from error
    except Exception as error:
        raise UserError(
            f"{source} could not be read: {reason_of(error)}; is it broken or empty? save it again"
        ) from error
