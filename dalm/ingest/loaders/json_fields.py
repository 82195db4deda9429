"""JSON: a file in, a document for each text at a path out."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dalm.ingest.document import Document
from dalm.ingest.loaders.loader import LoaderOptions, UnreadableError, too_large
from dalm.ingest.loaders.table_cells import (
    decode_line,
    find_columns,
    kind_of,
    lines_of,
    row_document,
)
from dalm.ingest.skipped import Skipped


def read_json_lines(
    path: Path, source: str, reading: LoaderOptions
) -> Iterator[Document | Skipped]:
    """Read a value a line; a broken line is said and passed over."""
    for number, line in enumerate(lines_of(path, reading.max_bytes), 1):
        place = f"{source}, line {number}"
        try:
            text = decode_line(line, number, reading.encoding)
            if text.strip():
                yield from _documents(_parsed(text), place, reading)
        except UnreadableError as error:
            yield Skipped(place, str(error).removeprefix(f"line {number}, "))


def read_json(path: Path, source: str, reading: LoaderOptions) -> Iterator[Document | Skipped]:
    """Read one value, or the items of one list.

    Raises:
        UnreadableError: broken JSON, or a file over the limit: it has to be read as a whole.
    """
    if path.stat().st_size > reading.max_bytes:
        raise too_large(reading.max_bytes)
    lines = list(lines_of(path, reading.max_bytes))
    text = "".join(decode_line(line, n, reading.encoding) for n, line in enumerate(lines, 1))
    del lines
    first = text.lstrip()[:1]
    if not first:
        raise UnreadableError("it is empty")
    try:
        found = _parsed(text)
    except UnreadableError:
        if first != "{" or "\n" not in text.strip():
            raise
        yield from read_json_lines(path, source, reading)  # an object a line, by another name
        return
    items = found if isinstance(found, list) else [found]
    for number, item in enumerate(items, 1):
        place = source if items is not found else f"{source}, item {number}"
        try:
            yield from _documents(item, place, reading)
        except UnreadableError as error:
            yield Skipped(place, str(error))


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"line {error.lineno}, character {error.colno}: broken JSON ({error.msg})"
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nest too large to read
        raise UnreadableError(f"broken JSON ({error})") from error
    return found


def _documents(item: object, place: str, reading: LoaderOptions) -> Iterator[Document | Skipped]:
    """Find the texts of one JSON value; lists on the way are gone through."""
    if isinstance(item, str) and reading.text_column is None:
        yield row_document(item, "", place)
        return
    if not isinstance(item, dict):
        raise UnreadableError(f"{kind_of(item)}, not an object with a text in it")
    if reading.text_column is None:
        text, title = find_columns(list(item), LoaderOptions())
        path, title_name = [text], reading.title_column or title
    else:
        whole = reading.text_column
        path = [whole] if whole in item else whole.split(".")
        title_name = reading.title_column or "title"
    texts = list(_walk(item, tuple(path), title_name))
    if not texts:
        raise UnreadableError(f"no text at {'.'.join(path)!r}; set --text-column to the path to it")
    for number, (cell, name) in enumerate(texts, 1):
        where = place if len(texts) == 1 else f"{place}, text {number}"
        try:
            yield row_document(cell, name, where)
        except UnreadableError as error:
            yield Skipped(where, str(error))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a walk through JSON has come to."""

    value: object
    path: tuple[str, ...]
    title: object = ""


def _walk(
    item: object, path: tuple[str, ...], title_name: str | None
) -> Iterator[tuple[object, object]]:
    """Yield the values at a path with the titles that stand nearest to them, in their order."""
    waiting = [_Place(item, path)]
    while waiting:
        here = waiting.pop()
        if isinstance(here.value, list):
            waiting += [_Place(each, here.path, here.title) for each in reversed(here.value)]
        elif not here.path:
            yield here.value, here.title
        elif isinstance(here.value, dict):
            title = _titled(here.value, title_name) or here.title
            if here.path[0] in here.value:
                waiting.append(_Place(here.value[here.path[0]], here.path[1:], title))


def _titled(found: Mapping[str, object], name: str | None) -> object:
    if name is None or name in found:
        return found.get(name or "")
    return next((value for key, value in found.items() if key.lower() == name.lower()), "")
