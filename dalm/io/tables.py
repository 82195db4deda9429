"""Read a file as a table: csv, tsv, jsonl, json or parquet in, named columns out."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from dalm.errors import UserError

FIELD_LIMIT = 2**31 - 1  # characters in a csv field; the largest that every platform's long holds


@dataclass(frozen=True)
class Table:
    """A table as it was found: `column(name)` gives its cells, row 1 first.

    Columns are read when they are asked for: images or vectors beside the texts cost nothing.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    column: Callable[[str], Sequence[object]]


def read_file(path: Path) -> Table:
    """Read a file by its extension; csv, tsv, jsonl and json may be compressed (`.gz`).

    Nothing in a text file stands for a missing value: `NA` is a text.

    Raises UserError when the extension is unknown or the file broken.
    """
    if reader := READERS.get(kind(path)):
        return reader(path)
    raise UserError(f"{path}: unknown extension {path.suffix!r}; read are {', '.join(READERS)}")


def kind(path: Path) -> str:
    """Return the extension that says how to read a file: `.csv` for `a.CSV` and `a.csv.gz`."""
    suffix = path.suffix.lower()
    packed = Path(path.stem).suffix.lower()
    return packed if suffix == ".gz" and packed in READERS and packed != ".parquet" else suffix


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Turn whatever a library raises over a broken file into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{source} could not be read: {one_line(error)}; is it broken or empty? save it again"
        ) from error


def one_line(error: BaseException) -> str:
    """Return an error's message as one line, or its name when it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _lines(path: Path) -> Generator[str, None, None]:
    """Yield a file's lines with their ends as they are; a byte order mark is dropped."""
    try:
        with _open(path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            for number, line in enumerate(text, 1):
                if "\0" in line:
                    raise UserError(
                        f"{path}, line {number}: a NUL byte, so this is UTF-16 or no text at all; "
                        "save the file as UTF-8"
                    )
                yield line
    except UnicodeDecodeError:
        raise _encoding_error(path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} could not be read: {one_line(error)}") from error


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def _encoding_error(path: Path) -> UserError:
    """Find the first byte that isn't UTF-8: the decoder knows its place in a block only."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place = f"line {number}, byte {error.start + 1} ({line[error.start]:#04x})"
                return UserError(f"{path}, {place}: not UTF-8; save the file as UTF-8")
    raise AssertionError(f"{path} is UTF-8 line by line but not as a whole")


def _read_delimited(path: Path, delimiter: str) -> Table:
    limit = csv.field_size_limit(FIELD_LIMIT)
    try:
        # Closed here and now: an error would keep the file open for as long as it is looked at.
        with closing(_lines(path)) as lines:
            numbered = _numbered_rows(path, lines, delimiter)
            _, first = next(numbered, (0, []))
            header = _header(path, first, delimiter)
            rows = [_padded(path, line, row, len(header)) for line, row in numbered]
    finally:
        csv.field_size_limit(limit)  # the limit belongs to the process, not to this reader
    position = {name: place for place, name in enumerate(header)}
    names = tuple(name for name in header if name)  # pandas leaves its index without a name
    return Table(str(path), names, len(rows), lambda name: [row[position[name]] for row in rows])


def _numbered_rows(
    path: Path, lines: Iterator[str], delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with the line that it begins on; blank lines are no rows.

    Strict, for otherwise a quote that is never closed swallows the rest of the file in silence.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}: the quotes of the row that begins on line {line} are broken ({error}); "
                'quote the whole field and write a quote inside it twice: ""'
            ) from error
        if row:
            yield line, row


def _header(path: Path, row: list[str], delimiter: str) -> list[str]:
    header = [name.strip() for name in row]
    if not any(header):
        raise UserError(f"{path} is empty; its first line must name the columns")
    others = [mark for mark in ",;\t|" if mark != delimiter and len(row) == 1 and mark in row[0]]
    if others:
        raise UserError(
            f"{path}: the columns seem to be separated by {others[0]!r}, not by {delimiter!r}; "
            "save as .csv with commas or as .tsv with tabs"
        )
    return header


def _padded(path: Path, line: int, row: list[str], width: int) -> list[str]:
    if len(row) < width:
        return row + [""] * (width - len(row))
    if any(row[width:]):
        raise UserError(
            f"{path}: the row that begins on line {line} has {len(row)} fields, "
            f"the header has {width}; put quotes around a field with a separator in it"
        )
    return row


def _read_json(path: Path) -> Table:
    """Read an object a line, or one list of objects, whichever the file's name says."""
    lines = list(_lines(path))
    first = next((line.lstrip() for line in lines if line.strip()), "")
    if first.startswith("["):
        parsed = _parse(path, "".join(lines), 1)
        numbered = [(f"item {number}", cells) for number, cells in enumerate(parsed, 1)]
    else:
        numbered = [
            (f"line {number}", _parse(path, line.rstrip(), number))
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    for place, cells in numbered:
        if not isinstance(cells, dict):
            raise UserError(f"{path}, {place}: not an object with a value for each column")
    rows = [cells for _, cells in numbered]
    names = tuple(dict.fromkeys(name for cells in rows for name in cells))
    return Table(str(path), names, len(rows), lambda name: [cells.get(name) for cells in rows])


def _parse(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1}, character {error.colno}"
        raise UserError(
            f"{path}, {place}: broken JSON ({error.msg}); "
            "write one object a line, or one list of objects"
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nest too large to read
        raise UserError(f"{path}, line {line}: broken JSON ({one_line(error)})") from error


def _read_parquet(path: Path) -> Table:
    from pyarrow.parquet import ParquetFile

    def column(name: str) -> Sequence[object]:
        with reading(path), ParquetFile(path) as file:
            cells: list[object] = file.read(columns=[name]).column(0).to_pylist()
            return cells

    with reading(path), ParquetFile(path) as file:
        return Table(str(path), tuple(file.schema_arrow.names), file.metadata.num_rows, column)


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": lambda path: _read_delimited(path, ","),
    ".tsv": lambda path: _read_delimited(path, "\t"),
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


# FOLDED sources.py: Find a table: a file, a saved dataset folder or a hub name in, a table out.

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:.+)?")


def read_table(source: str | Path) -> Table:
    """Read csv, tsv, jsonl, json, parquet, a folder of `save_to_disk`, or `owner/name[:split]`.

    csv, tsv, jsonl and json may be compressed (`.gz`). A hub dataset's split is `train` unless it
    is named. Nothing in a text file stands for a missing value: `NA` is a text.

    Raises UserError when the source is missing, of another kind, broken or empty.
    """
    path = Path(source).expanduser()
    if path.is_dir() and str(source).strip():
        table = _read_saved(path)
    elif path.is_file():
        table = read_file(path)
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


def _read_saved(path: Path) -> Table:
    import datasets

    with reading(path):
        try:
            saved = datasets.load_from_disk(str(path))
        except FileNotFoundError as error:
            inside = _readable_names(path)
            remedy = f"name one of its files: {_listed(inside)}" if inside else "name a file"
            raise UserError(f"folder {path} holds no saved dataset; {remedy}") from error
    if not isinstance(saved, datasets.DatasetDict):
        return _dataset_table(str(path), saved)
    if "train" not in saved and len(saved) != 1:
        splits = _listed([str(path / split) for split in saved])
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
    plain = dataset.with_format(None)  # a saved torch or numpy format would turn texts around

    def column(column_name: str) -> Sequence[object]:
        with reading(name):
            cells: list[object] = plain[column_name][:]
            return cells

    return Table(name, tuple(plain.column_names), len(plain), column)


def _is_hub_name(source: str) -> bool:
    """Tell whether a missing source may stand on the hub.

    `owner/name` always: a bare word would make `load_dataset` read whatever lies in the working
    directory (`csv`, `json`), and an owner that is a folder here is a mistyped path.
    """
    folder, path = Path(source).parent, Path(source)
    return bool(HUB_NAME.fullmatch(source)) and kind(path) not in READERS and not folder.exists()


def _readable_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if kind(path) in READERS)


def _remedy(missing: Path) -> str:
    folder = missing.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    near = get_close_matches(missing.name, [entry.name for entry in folder.iterdir()])
    if near:
        return f"did you mean {_listed([str(folder / name) for name in near])}?"
    return "check the path; a dataset on the Hugging Face hub is written owner/name"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
