"""Prompt a model for questions about passages, and read them in its reply.

The reply should be JSON; reading it never fails.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dalm.config.data import Kind
from dalm.llm.json_replies import Object, by_name, objects, one_line
from dalm.llm.language_model import object_schema, response_format
from dalm.llm.response_cache import cache_key, without_length
from dalm.llm.thoughts import without_thoughts
from dalm.prompts import Message
from dalm.records import Passage

SYSTEM = """\
You write the questions of an examination of a search engine. A question is put by somebody who \
has not seen any passage and wants to know something. You answer in JSON alone."""

RULES = """\
- A question stands alone: it names what it asks about, so that it can be understood without the \
passage. It never speaks of "the passage", "the text", "the authors" or "this study", and has no \
pronoun for something it doesn't name.
- A question is put in other words than the passage's where that is possible, and has one answer.
- An answer is right by the passage alone, complete and short.
- A quote is copied from the passage, character for character: the one or two sentences that hold \
the answer.
- Questions and answers are in the passage's language.
- Where the passage holds nothing worth a question (a list of references, a menu), send back an \
empty list."""

MEANINGS: dict[Kind, str] = {
    "fact": "a name, a number, a date, a definition",
    "why": "a cause or a reason",
    "how": "a way in which something is done or happens",
    "compare": "in what two things differ or agree",
    "multi-passage": "can only be answered from both passages together",
}

ONE = """\
{title}Passage:
{passage}

Write at most {number} questions about the passage, of these kinds:
{kinds}

{rules}

Send back: {shape}"""

TWO = """\
{title}First passage:
{passage}

Second passage:
{other}

Write at most {number} questions that can only be answered from both passages together, of the \
kind "multi-passage".

{rules}
- "quote" is copied from the first passage, "other_quote" from the second.

Send back: {shape}"""

SHAPE: dict[str, Any] = {
    "question": "...",
    "answer": "...",
    "quote": "...",
    "kind": "one of the kinds",
}
TWO_SHAPE = SHAPE | {"other_quote": "..."}

_TEXTS = (SYSTEM, RULES, json.dumps(MEANINGS), ONE, TWO, json.dumps(SHAPE))
VERSION = blake2b("\n".join(_TEXTS).encode(), digest_size=4).hexdigest()
"""A hash of every word above, so that a record names the prompt it was generated with."""

NAMES = {  # models choose names of their own, too
    "question": ("question", "query", "q"),
    "answer": ("answer", "response", "a"),
    "quote": ("quote", "evidence", "support", "supporting_quote"),
    "other_quote": ("other_quote", "second_quote"),
    "kind": ("kind", "type", "category"),
}
_LINE = re.compile(
    r"^[\s>#*\d.)-]*\**(q|question|a|answer|quote|kind)\d*\**\s*[:：]\**\s*(\S.*?)\**\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class QuestionPrompt:
    """A prompt for so many questions of these kinds."""

    number: int
    kinds: tuple[Kind, ...]

    @property
    def single_kinds(self) -> list[Kind]:
        """The kinds of questions about one passage."""
        return [kind for kind in self.kinds if kind != "multi-passage"]

    def messages(self, passage: Passage, other: Passage | None) -> list[Message]:
        """Return the messages that ask for questions about one passage, or about two together."""
        prompt = (ONE if other is None else TWO).format(
            title=f"Title: {passage.title}\n\n" if passage.title else "",
            passage=passage.text,
            other=other.text if other else "",
            number=self.number,
            kinds="\n".join(f"- {kind}: {MEANINGS[kind]}" for kind in self.single_kinds),
            rules=RULES,
            shape=json.dumps({"questions": [TWO_SHAPE if other else SHAPE]}),
        )
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]

    def schema(self, *, two: bool) -> dict[str, Any]:
        """Return the JSON schema of a reply about one passage or two, as `response_format`."""
        text = {"type": "string"}
        fields: dict[str, Any] = dict.fromkeys(TWO_SHAPE if two else SHAPE, text)
        fields["kind"] = text | {"enum": ["multi-passage"] if two else self.single_kinds}
        questions = {"type": "array", "items": object_schema(fields)}
        return response_format("questions", object_schema({"questions": questions}))


@dataclass(frozen=True, slots=True)
class QuestionRequest:
    """A request for questions about one passage, or about two of one document together.

    `key` is the hash of passage, prompt, model and parameters.
    """

    key: str
    passage: Passage
    other: Passage | None
    prompt: QuestionPrompt

    @property
    def about(self) -> dict[str, str]:
        """The passage, for people who read the journal."""
        return {"passage": self.passage.id}

    @property
    def messages(self) -> list[Message]:
        """The prompt, built when it is needed: a million of them would fill the memory."""
        return self.prompt.messages(self.passage, self.other)

    @property
    def response_format(self) -> dict[str, Any]:
        """The JSON schema that the reply should have."""
        return self.prompt.schema(two=self.other is not None)


def requests_of(
    passages: Sequence[Passage], prompt: QuestionPrompt, model: str, parameters: Mapping[str, Any]
) -> list[QuestionRequest]:
    """Return a request for each passage, and for each with the next of its document if wanted."""

    def request(passage: Passage, other: Passage | None) -> QuestionRequest:
        messages = prompt.messages(passage, other)
        key = cache_key(passage.id, messages, model, without_length(parameters))
        return QuestionRequest(key, passage, other, prompt)

    following = _following(passages) if "multi-passage" in prompt.kinds else {}
    requests = []
    for passage in passages:
        if prompt.single_kinds:
            requests.append(request(passage, None))
        if passage.id in following:
            requests.append(request(passage, following[passage.id]))
    return requests


def _following(passages: Sequence[Passage]) -> dict[str, Passage]:
    """Return the next passage of the same title, for each passage that has one."""
    last: dict[str, Passage] = {}
    found = {}
    for passage in passages:
        if passage.title:
            if before := last.get(passage.title):
                found[before.id] = passage
            last[passage.title] = passage
    return found


@dataclass(frozen=True, slots=True)
class Draft:
    """A question as a model wrote it, unchecked."""

    question: str
    answer: str
    quote: str = ""
    other_quote: str = ""
    kind: str = ""


def parse(text: str) -> list[Draft]:
    """Return the questions of a reply, in their order, as many as can be read.

    Reasoning, Markdown fences and words around the JSON are passed over. Of JSON that is cut short
    the whole objects are kept. Python's quotes, trailing commas and lines of `Question: ...` are
    understood as well. A reply without a question gives none.
    """
    text = without_thoughts(text)
    found = objects(text, lambda each: bool(_text(each, "question")))
    drafts = [draft for each in found if (draft := _draft(each))]
    return drafts or list(_lines(text))


def is_empty_list(text: str) -> bool:
    """Return whether a reply is an empty list: the model found nothing worth a question."""
    bare = re.sub(r"```(json)?|\s", "", without_thoughts(text))
    return bare in ('{"questions":[]}', "[]", "{}")


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
        name = {"q": "question", "a": "answer"}.get(match[1].lower(), match[1].lower())
        if name == "question":
            if draft := _draft(fields):
                yield draft
            fields = {}
        fields.setdefault(name, match[2])
    if draft := _draft(fields):
        yield draft
