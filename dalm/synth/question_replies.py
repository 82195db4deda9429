"""Read the queries in a model's reply; it should be JSON, and reading it never fails."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dalm.llm.json_replies import Object, by_name, objects, one_line
from dalm.llm.thoughts import without_thoughts

NAMES = {  # models choose names of their own, too
    "question": ("question", "query", "q"),
    "answer": ("answer", "response", "a"),
    "quote": ("quote", "evidence", "support", "supporting_quote"),
    "other_quote": ("other_quote", "second_quote"),
    "kind": ("kind", "type", "category"),
}
_LABELS = {"q": "question", "query": "question", "a": "answer", "type": "kind"}
_LINE = re.compile(
    r"^[\s>#*\d.)-]*\**(q|question|query|a|answer|quote|kind|type)\d*\**\s*[:：]\**\s*(\S.*?)\**\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A question as a model wrote it, unchecked."""

    question: str
    answer: str
    quote: str = ""
    other_quote: str = ""
    kind: str = ""


def parse(text: str, *, cut: bool = False) -> list[Draft]:
    """Return the questions of a reply, in their order, as many as can be read.

    Reasoning, Markdown fences and words around the JSON are passed over. Of a reply that is `cut`
    the whole questions are kept. Python's quotes, trailing commas and lines of `Question: ...` are
    understood as well. A reply without a question gives none.
    """
    text = without_thoughts(text)
    found = objects(text, lambda each: bool(_text(each, "question")))
    drafts = [draft for each in found if (draft := _draft(each))]
    if drafts:
        return drafts
    lines = list(_lines(text))
    return lines[:-1] if cut and lines and _ends_with(text, lines[-1]) else lines


def _ends_with(text: str, draft: Draft) -> bool:
    """Return whether a text ends within a question's last field."""
    return one_line(text).endswith((draft.answer, draft.quote or draft.answer))


def is_empty_list(text: str) -> bool:
    """Return whether a reply is an empty list: the model found nothing worth a question."""
    bare = re.sub(r"```(json)?|\s", "", without_thoughts(text))
    return bare in ('{"queries":[]}', '{"questions":[]}', "[]", "{}")


def _draft(found: Object) -> Draft | None:
    fields = {name: _text(found, name) for name in NAMES}
    return Draft(**fields) if fields["question"] and fields["answer"] else None


def _text(found: Object, name: str) -> str:
    """Return a field as one line of text, whichever name a model gave it."""
    values = by_name(found)
    for each in NAMES[name]:
        value = values.get(each)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return one_line(str(value))
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return one_line(", ".join(value))
    return ""


def _lines(text: str) -> Iterator[Draft]:
    """Yield the questions of lines like `Question: ...` and `Answer: ...`."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not (match := _LINE.match(line[:5_000])):
            continue
        name = _LABELS.get(match[1].lower(), match[1].lower())
        if name == "question":
            if draft := _draft(fields):
                yield draft
            fields = {}
        fields.setdefault(name, match[2])
    if draft := _draft(fields):
        yield draft
