"""Read cells of tables: texts, lists of negatives, provenance, and paths into nested JSON."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

LARGEST_EXACT = 2**53
"""Floats above it are integers by their precision alone."""
LONGEST_NAME = 500  # characters of a document's or file's name; what is longer is its text


class CellError(ValueError):
    """Report a cell that can't be used, and the remedy."""


def cell_text(cell: object) -> str:
    """Return a cell as a text; a missing or blank one becomes the empty text, a NUL a blank.

    Missing are None and NaN alone: `NA` and `null` are texts. Booleans become `true` and `false`.
    Numbers are written as they are, but whole ones without `.0`: a column of integers is one of
    floats as soon as a cell is missing, as pandas writes it, and 1913 is 1913.

    Raises:
        CellError: an object, a list, bytes, or an unpaired surrogate, which no file can hold.
    """
    text = cell if type(cell) is str else _as_text(cell)
    if "\0" in text:  # which csv can't hold: what is made of the table may become one
        text = text.replace("\0", " ")
    if not text.isascii():
        check_surrogates(text)
    return "" if text.isspace() else text


def check_surrogates(text: str) -> None:
    """Refuse unpaired surrogates: broken JSON escapes leave them, and no file can hold them.

    Raises:
        CellError: names the first one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        surrogate = ascii(error.object[error.start])
        raise CellError(f"{surrogate} is an unpaired surrogate; remove it") from None


def _as_text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, dict | list):
        raise CellError(
            f"{kind_of(cell)}, not a text; name the field inside, as in body.text, or write it as "
            "text first"
        )
    if isinstance(cell, bytes):
        raise CellError("bytes, not a text; write it as text first")
    return str(whole(cell))


def whole(cell: object) -> object:
    """Return a float that is a whole number as an integer, any other cell as it is."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < LARGEST_EXACT:
        return int(cell)
    return cell


def kind_of(value: object) -> str:
    """Return what a value is called in an error."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


# Hard negatives


def listed_texts(cell: object) -> list[str]:
    """Return the texts in a cell that holds one or a list of them, without blank ones.

    A list may be written as JSON, as in a csv file: `["one passage", "another"]`.

    Raises:
        CellError: neither a list of texts nor a text.
    """
    return [text for text in map(cell_text, _items(cell)) if text]


def _items(cell: object) -> Sequence[object]:
    if isinstance(cell, list):
        return cell
    if isinstance(cell, bool | int | float) and not math.isnan(cell):  # which is a missing cell
        raise CellError("a number, not a passage; rename it, or name another --negatives-column")
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            found = json.loads(cell)
        except ValueError:
            return [cell]  # a passage that begins with a bracket
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return found
    return [cell]


# Provenance


def provenance_of(cells: Mapping[str, object]) -> dict[str, Any]:
    """Return the provenance in a row's cells as fields of a passage; others are left out."""
    found: dict[str, Any] = {}
    for name, cell in cells.items():
        if name == "headings":
            value: object = _headings(cell)
        elif name in ("page", "start", "end"):
            value = _whole_number(cell)
        else:
            value = str(whole(cell)) if isinstance(whole(cell), str | int) else None
            value = value if value and len(value) <= LONGEST_NAME else None
        if value not in (None, "", ()):
            found[name] = value
    return found


def _headings(cell: object) -> tuple[str, ...]:
    if isinstance(cell, str) and cell.startswith("["):  # as a csv file holds a list
        try:
            cell = json.loads(cell)
        except ValueError:
            return (str(cell),)
    if isinstance(cell, str):
        return (cell,) if cell.strip() else ()
    return tuple(map(str, cell)) if isinstance(cell, list | tuple) else ()


def _whole_number(cell: object) -> int | None:
    if isinstance(cell, str) and cell.isascii() and cell.isdecimal():
        return int(cell)
    cell = whole(cell)
    return cell if isinstance(cell, int) and not isinstance(cell, bool) else None


def extra_of(cells: Mapping[str, object]) -> dict[str, object]:
    """Return the cells that a passage keeps: texts, numbers and booleans, no empty ones."""
    found: dict[str, object] = {}
    for name, cell in cells.items():
        value = cell.isoformat() if isinstance(cell, datetime | date | time) else whole(cell)
        if isinstance(cell, Decimal):
            value = int(cell) if cell == cell.to_integral_value() else float(cell)
        is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        if is_number or (isinstance(value, str) and value):
            found[name] = value
    return found


# Nested values


def values_at(
    row: Mapping[str, object], name: str, title_name: str | None = None
) -> Iterator[tuple[object, object]]:
    """Yield the values at a column or a path (`body.text`), each with the title nearest to it.

    A column whose own name has dots in it takes precedence over the path. Lists on the way are
    gone through in their order, so there may be several values. A title's path begins at the row.
    """
    title = value_at(row, title_name) if title_name and "." in title_name else ""
    if name in row and type(row[name]) is not list:
        yield row[name], _title_in(row, title_name) or title
        return
    path = (name,) if name in row else tuple(name.split("."))
    waiting: list[tuple[object, tuple[str, ...], object]] = [(row, path, title)]
    while waiting:
        value, names, title = waiting.pop()
        if isinstance(value, list):
            waiting += [(each, names, title) for each in reversed(value)]
        elif not names:
            yield value, title
        elif isinstance(value, dict) and names[0] in value:
            nearest = _title_in(value, title_name) or title
            waiting.append((value[names[0]], names[1:], nearest))


def _title_in(found: Mapping[str, object], name: str | None) -> object:
    if name is None or name in found:
        return found.get(name or "")
    return next((value for key, value in found.items() if key.lower() == name.lower()), "")


def value_at(row: Mapping[str, object], name: str) -> object:
    """Return the value at a column or a path; None if there is none, a list if a list is passed."""
    if name in row or "." not in name:
        return row.get(name)
    value: object = row
    for step in name.split("."):
        if isinstance(value, list):
            return [found for found, _ in values_at(row, name)]
        value = value.get(step) if isinstance(value, dict) else None
    return value
