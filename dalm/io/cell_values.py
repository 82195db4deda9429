"""Turn cells of tables into texts, and follow paths into nested JSON."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


class CellError(ValueError):
    """Report a cell that can't be used, and the remedy."""


def cell_text(cell: object) -> str:
    """Return a cell as a text; a missing or blank one becomes the empty text.

    Missing are None and NaN alone: `NA` and `null` are texts. Booleans become `true` and `false`,
    numbers what they are written as.

    Raises:
        CellError: an object, a list, bytes, or an unpaired surrogate, which no file can hold.
    """
    text = cell if type(cell) is str else _as_text(cell)
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
    return str(cell)


def kind_of(value: object) -> str:
    """Return what a value is called in an error."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


# Nested values


@dataclass(frozen=True, slots=True)
class _Step:
    """A value on the way, the names that are left to follow, and the nearest title so far."""

    value: object
    path: tuple[str, ...]
    title: object = ""


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
    waiting = [_Step(row, path, title)]
    while waiting:
        step = waiting.pop()
        if isinstance(step.value, list):
            waiting += [_Step(each, step.path, step.title) for each in reversed(step.value)]
        elif not step.path:
            yield step.value, step.title
        elif isinstance(step.value, dict):
            title = _title_in(step.value, title_name) or step.title
            if step.path[0] in step.value:
                waiting.append(_Step(step.value[step.path[0]], step.path[1:], title))


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
