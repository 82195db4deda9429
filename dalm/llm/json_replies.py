"""Find the JSON objects in a model's reply, whatever else is in it; never fails."""

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import json_repair

MOST_CHARACTERS = 200_000  # of a reply that are looked at
MOST_TRIES = 2_000  # braces at which an object may begin
LONGEST_REPAIR = 4_000  # characters of a malformed object: the time grows with their square

_FENCE = re.compile(r"\A\s*```\w*|```\s*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")

Object = dict[str, Any]


def objects(text: str, wanted: Callable[[Object], bool]) -> Iterator[Object]:
    """Yield the objects that are wanted, outermost first, wherever in the text they begin.

    Markdown fences and words around the JSON are passed over. Of JSON that is cut short the whole
    objects are found. Malformed ones (Python's quotes, trailing or missing commas, quotation marks
    that aren't escaped) are repaired.
    """
    for value, _ in _outermost(text[:MOST_CHARACTERS]):
        yield from _within(value, wanted)


def spans(text: str) -> list[tuple[int, int]]:
    """Return the places of the outermost objects, from their first character past their last."""
    return [span for _, span in _outermost(text[:MOST_CHARACTERS])]


def is_whole(text: str) -> bool:
    """Return whether a text is nothing but one JSON object or array, perhaps in a fence."""
    bare = _FENCE.sub("", text).strip()
    if bare[:1] not in ("{", "["):
        return False
    try:
        json.loads(bare, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def is_unclosed(text: str) -> bool:
    """Return whether a text ends within JSON: in a string, or before its last bracket."""
    depth, in_string, escaped = 0, False, False
    for sign in text[:MOST_CHARACTERS]:
        if in_string:
            in_string = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            in_string = depth > 0
        else:
            depth += (sign in "{[") - (sign in "}]")
    return in_string or depth > 0


def by_name(found: Object) -> Object:
    """Return an object with its names in lower case and without blanks around them."""
    return {str(name).lower().strip(): value for name, value in found.items()}


def one_line(text: str) -> str:
    """Return a text on one line, and one that can be written to a file.

    An unpaired surrogate (`"\\ud83d"` in JSON) can't be, and becomes a question mark. Control
    characters, such as a NUL, become blanks.
    """
    return " ".join(_CONTROL.sub(" ", text.encode("utf-8", "replace").decode()).split())


def _outermost(text: str) -> Iterator[tuple[Any, tuple[int, int]]]:
    place, tries = text.find("{"), 0
    while place >= 0 and tries < MOST_TRIES:
        tries += 1
        value, end = _decode(text, place)
        if value is not None:
            yield value, (place, end)
            place = text.find("{", end)
        else:
            place = text.find("{", place + 1)


def _within(value: Any, wanted: Callable[[Object], bool]) -> Iterator[Object]:
    waiting = [value]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, dict):
            if wanted(found):
                yield found
            else:
                waiting = [*found.values(), *waiting]
        elif isinstance(found, list):
            waiting = [*found, *waiting]


def _decode(text: str, place: int) -> tuple[Any, int]:
    """Return the object that begins at `place` and its end, or None where there is no whole one."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, place)
    except (ValueError, RecursionError):
        pass
    # An object without another in it ends at the next brace. One without an end
    # was truncated; repairing it would make a complete object of half a reply.
    end = text.find("}", place) + 1
    inner = text[place:end]
    if not end or "{" in inner[1:]:
        return None, place
    for read in (_without_trailing_commas, _python, _repaired):
        try:
            value = read(inner)
        except Exception:  # json_repair documents none of its own
            continue
        if isinstance(value, dict):
            return value, end
    return None, place


# The exact readers come first: json_repair neither joins the escapes of surrogate pairs nor knows
# Python's escapes.


def _without_trailing_commas(text: str) -> Any:
    return json.loads(_TRAILING_COMMA.sub(r"\1", text), strict=False)


def _python(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash that means nothing in Python
        return ast.literal_eval(text)


def _repaired(text: str) -> Any:
    return json_repair.loads(text, skip_json_loads=True) if len(text) <= LONGEST_REPAIR else None
