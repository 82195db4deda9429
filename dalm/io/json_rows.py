"""Read the rows of JSON: an object a line, or the items of a list."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

from dalm.io.cell_values import CellError, check_surrogates, kind_of
from dalm.io.row_types import Reading, Row, Rows, UnreadRow
from dalm.io.text_lines import BrokenLineError, Line, Lines, UnreadableError, too_large

_NEXT_ITEM = re.compile(r"[\s,]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def json_rows(lines: Lines, reading: Reading, *, by_line: bool) -> Rows:
    """Read an object a line, or the items of one list; `by_line` says which is the likelier.

    A list has to be read as a whole. A text in the place of an object is its column `text`.
    """
    first: list[Line] = []
    start = ""
    for number, line in lines:
        first.append((number, line))
        start = line.lstrip() if isinstance(line, str) else "?"
        if start:
            break
    if not start:
        return Rows(None, "line", iter(()))
    lines = chain(first, lines)
    if by_line and not start.startswith("["):
        return Rows(None, "line", _objects_by_line(lines))
    held = _held(lines, reading.max_bytes)
    try:
        text = "".join(_whole(iter(held)))
        parsed = _parsed(text)
    except UnreadableError:
        if not _is_json(start) or not any(
            not isinstance(line, str) or line.strip() for _, line in held[len(first) :]
        ):
            if reading.recover and start.startswith("["):
                return Rows(None, "item", _items_up_to_error(held))
            raise
        return Rows(None, "line", _objects_by_line(iter(held)))
    read = partial(_object, has_escapes=_SURROGATE.search(text) is not None)
    if isinstance(parsed, list):
        return Rows(None, "item", map(read, range(1, len(parsed) + 1), parsed))
    return Rows(None, "item", map(read, [0], [parsed]))


def _items_up_to_error(lines: Sequence[Line]) -> Iterator[Row | UnreadRow]:
    """Yield the items of a list that is broken, up to where it is."""
    text = "".join(line for _, line in lines if isinstance(line, str))
    broken = next((line.reason for _, line in lines if not isinstance(line, str)), "")
    decode = json.JSONDecoder().raw_decode
    at, number = text.index("[") + 1, 0
    while True:
        between = _NEXT_ITEM.match(text, at)
        assert between is not None, "it matches nothing, too"
        try:
            value, at = decode(text, between.end())
        except (ValueError, RecursionError) as error:
            reason = broken or getattr(error, "msg", str(error))
            yield UnreadRow(number + 1, f"broken JSON ({reason}); nothing is read from here on")
            return
        number += 1
        yield _object(number, value, has_escapes=True)


def _held(lines: Lines, max_bytes: int | None) -> list[Line]:
    """Keep a file's lines, up to a limit."""
    held, size = [], 0
    for number, line in lines:
        size += len(line) if isinstance(line, str) else 0
        if max_bytes is not None and size > max_bytes:
            raise too_large(max_bytes)
        held.append((number, line))
    return held


def _objects_by_line(lines: Lines) -> Iterator[Row | UnreadRow]:
    for number, line in lines:
        if isinstance(line, BrokenLineError):
            yield UnreadRow(number, line.reason)
        elif line.strip():
            try:
                has_escapes = _SURROGATE.search(line) is not None
                yield _object(number, _parsed(line.rstrip()), has_escapes=has_escapes)
            except UnreadableError as error:
                yield UnreadRow(number, str(error).removeprefix("line 1, "))


def _object(number: int, value: object, *, has_escapes: bool) -> Row | UnreadRow:
    if has_escapes:  # otherwise there can be no surrogate
        try:
            check_surrogates(json.dumps(value, ensure_ascii=False))
        except (CellError, RecursionError) as error:
            return UnreadRow(number, str(error))
    if isinstance(value, dict):
        return Row(number, value)
    if isinstance(value, str):
        return Row(number, {"text": value})
    return UnreadRow(number, f"{kind_of(value)}, not an object with a value for each column")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"line {error.lineno}, character {error.colno}: broken JSON ({error.msg}); write one "
            "object a line, or one list of objects"
        ) from error
    except (ValueError, RecursionError) as error:  # a number or a nest too large to read
        raise UnreadableError(f"broken JSON ({error})") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _whole(lines: Lines) -> Iterator[str]:
    """Yield the lines of a file that is worth nothing without each of them."""
    for _, line in lines:
        if isinstance(line, BrokenLineError):
            raise line
        yield line
