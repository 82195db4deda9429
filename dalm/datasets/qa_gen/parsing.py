"""Read what a model wrote: an answer that should be JSON in, questions out; it never fails."""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 200_000  # of an answer that are looked at
MOST_TRIES = 2_000  # braces at which an object may begin

NAMES = {  # models choose names of their own, too
    "question": ("question", "query", "q"),
    "answer": ("answer", "response", "a"),
    "quote": ("quote", "evidence", "support", "supporting_quote"),
    "other_quote": ("other_quote", "second_quote"),
    "kind": ("kind", "type", "category"),
}
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_LINE = re.compile(
    r"^[\s>#*\d.)-]*\**(q|question|a|answer|quote|kind)\d*\**\s*[:：]\**\s*(\S.*?)\**\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A question as a model wrote it; nothing about it is checked yet."""

    question: str
    answer: str
    quote: str = ""
    other_quote: str = ""
    kind: str = ""


def parse(text: str) -> list[Draft]:
    """Return the questions of an answer, in their order, as many as can be read.

    Thoughts, Markdown fences and words around the JSON are passed over. Of JSON that is cut short
    the whole objects are kept. Python's quotes, trailing commas and lines of `Question: ...` are
    understood as well. An answer without a question gives none.
    """
    text = _THOUGHT.sub("", text[:MOST_CHARACTERS])
    drafts = [draft for found in _objects(text) if (draft := _draft(found))]
    return drafts or list(_lines(text))


def is_empty_list(text: str) -> bool:
    """Tell whether a model sent back an empty list: it found nothing worth a question."""
    bare = re.sub(r"```(json)?|\s", "", _THOUGHT.sub("", text[:MOST_CHARACTERS]))
    return bare in ('{"questions":[]}', "[]", "{}")


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the innermost objects that could be questions, wherever they begin."""
    place, tries = text.find("{"), 0
    while place >= 0 and tries < MOST_TRIES:
        tries += 1
        value, end = _decode(text, place)
        if value is not None:
            yield from _innermost(value)
            place = text.find("{", end)
        else:
            place = text.find("{", place + 1)


def _decode(text: str, place: int) -> tuple[Any, int]:
    """Return the object that begins at `place` and its end, or None where there is no whole one."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, place)
    except (ValueError, RecursionError):
        pass
    # Small repairs are worth a try on an object without another in it: it ends at the next brace.
    end = text.find("}", place) + 1
    inner = text[place:end]
    if not end or "{" in inner[1:]:
        return None, place
    mended = _TRAILING_COMMA.sub(r"\1", inner)
    for read, written in ((_loads, mended), (_python, inner)):
        try:
            value = read(written)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict):
            return value, end
    return None, place


def _loads(text: str) -> Any:
    return json.loads(text, strict=False)


def _python(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash that means nothing in Python
        return ast.literal_eval(text)


def _innermost(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, dict):
            if _text(found, "question"):
                yield found
            else:
                waiting = [*found.values(), *waiting]
        elif isinstance(found, list):
            waiting = [*found, *waiting]


def _draft(found: dict[str, Any]) -> Draft | None:
    fields = {name: _text(found, name) for name in NAMES}
    return Draft(**fields) if fields["question"] and fields["answer"] else None


def _text(found: dict[str, Any], name: str) -> str:
    """Return a field as one line of text, whichever name a model gave it."""
    by_name = {str(key).lower().strip(): value for key, value in found.items()}
    for each in NAMES[name]:
        value = by_name.get(each)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return _one_line(str(value))
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return _one_line(", ".join(value))
    return ""


def _one_line(text: str) -> str:
    # Half a character (a lone surrogate, "\ud83d" in JSON) can be written to no file.
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _lines(text: str) -> Iterator[Draft]:
    """Yield the questions of lines like `Question: ...` and `Answer: ...`."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not (match := _LINE.match(line[:5_000])):
            continue
        name = {"q": "question", "a": "answer"}.get(match[1].lower(), match[1].lower())
        if name == "question":
            if draft := _draft(fields):
                yield draft
            fields = {}
        fields.setdefault(name, match[2])
    if draft := _draft(fields):
        yield draft
