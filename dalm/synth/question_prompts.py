"""Prompt a model for questions about passages, and state the JSON that it should reply with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dalm.config.data import Kind
from dalm.llm.language_model import object_schema, response_format
from dalm.llm.response_cache import cache_key
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

_TEXTS = (SYSTEM, RULES, json.dumps(MEANINGS), ONE, TWO, json.dumps(SHAPE))
VERSION = blake2b("\n".join(_TEXTS).encode(), digest_size=4).hexdigest()
"""A hash of every word above, so that a record names the prompt it was generated with."""


@dataclass(frozen=True)
class QuestionPrompt:
    """A prompt for so many questions of these kinds."""

    number: int
    kinds: tuple[Kind, ...]

    def messages(self, passage: Passage, other: Passage | None) -> list[Message]:
        """Return the messages that ask for questions about one passage, or about two together."""
        kinds = [kind for kind in self.kinds if kind != "multi-passage"]
        prompt = (ONE if other is None else TWO).format(
            title=f"Title: {passage.title}\n\n" if passage.title else "",
            passage=passage.text,
            other=other.text if other else "",
            number=self.number,
            kinds="\n".join(f"- {kind}: {MEANINGS[kind]}" for kind in kinds),
            rules=RULES,
            shape=json.dumps({"questions": [_shape(two=other is not None)]}),
        )
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]


def schema(kinds: Sequence[Kind], *, two: bool) -> dict[str, Any]:
    """Return the JSON schema of a reply, as `response_format` takes it."""
    text = {"type": "string"}
    fields: dict[str, Any] = dict.fromkeys(_shape(two=two), text)
    allowed = ["multi-passage"] if two else [kind for kind in kinds if kind != "multi-passage"]
    fields["kind"] = text | {"enum": allowed}
    item = object_schema(fields)
    questions = {"questions": {"type": "array", "items": item}}
    return response_format("questions", object_schema(questions))


def _shape(*, two: bool) -> dict[str, Any]:
    return SHAPE | {"other_quote": "..."} if two else SHAPE


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
        return schema(self.prompt.kinds, two=self.other is not None)


def requests_of(
    passages: Sequence[Passage], prompt: QuestionPrompt, model: str, parameters: Mapping[str, Any]
) -> list[QuestionRequest]:
    """Return a request for each passage, and for each with the next of its document if wanted."""

    def request(passage: Passage, other: Passage | None) -> QuestionRequest:
        messages = prompt.messages(passage, other)
        key = cache_key(passage.id, messages, model, dict(parameters))
        return QuestionRequest(key, passage, other, prompt)

    single = any(kind != "multi-passage" for kind in prompt.kinds)
    following = _following(passages) if "multi-passage" in prompt.kinds else {}
    requests = []
    for passage in passages:
        if single:
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


def evenly_spaced(passages: Sequence[Passage], number: int) -> list[Passage]:
    """Return `number` passages at equal distances over the table, or all if there are fewer."""
    number = min(number, len(passages))
    return [passages[place * len(passages) // number] for place in range(number)]
