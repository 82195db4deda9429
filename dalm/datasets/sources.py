"""Find a table: a file, a saved dataset folder or a hub name in, a table out."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dalm.datasets.formats import READERS, Table, kind, one_line, read_file, reading
from dalm.errors import UserError

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
