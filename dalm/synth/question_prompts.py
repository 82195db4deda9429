"""What a model is told and what it has to send back: a passage in, messages out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dalm.config.data import Kind
from dalm.llm.language_model import key_of, object_of, response_format
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
"""Changes with every word above, so that no record claims another prompt than its own."""


@dataclass(frozen=True)
class Wording:
    """How a passage is put to a model: the number and the kinds of questions wanted."""

    number: int
    kinds: tuple[Kind, ...]

    def messages(self, passage: Passage, other: Passage | None) -> list[Message]:
        """Return the messages that ask for questions about one passage, or about two together."""
        kinds = [kind for kind in self.kinds if kind != "multi-passage"]
        asked = (ONE if other is None else TWO).format(
            title=f"Title: {passage.title}\n\n" if passage.title else "",
            passage=passage.text,
            other=other.text if other else "",
            number=self.number,
            kinds="\n".join(f"- {kind}: {MEANINGS[kind]}" for kind in kinds),
            rules=RULES,
            shape=json.dumps({"questions": [_shape(two=other is not None)]}),
        )
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]


def schema(kinds: Sequence[Kind], *, two: bool) -> dict[str, Any]:
    """Return the JSON schema of an answer, as `response_format` takes it."""
    text = {"type": "string"}
    fields: dict[str, Any] = dict.fromkeys(_shape(two=two), text)
    allowed = ["multi-passage"] if two else [kind for kind in kinds if kind != "multi-passage"]
    fields["kind"] = text | {"enum": allowed}
    item = object_of(fields)
    questions = {"questions": {"type": "array", "items": item}}
    return response_format("questions", object_of(questions))


def _shape(*, two: bool) -> dict[str, Any]:
    return SHAPE | {"other_quote": "..."} if two else SHAPE


# FOLDED asking.py: What is asked of a model: passages in, requests out.


@dataclass(frozen=True, slots=True)
class Request:
    """One passage, or two of one document, to make questions of.

    `key` is the hash of passage, prompt, model and parameters: an answer to an equal request is an
    answer to this one.
    """

    key: str
    passage: Passage
    other: Passage | None
    wording: Wording

    @property
    def about(self) -> dict[str, str]:
        """The passage, for whoever reads the journal."""
        return {"passage": self.passage.id}

    @property
    def messages(self) -> list[Message]:
        """The prompt; it is written when it is needed, a million of them would fill the memory."""
        return self.wording.messages(self.passage, self.other)

    @property
    def response_format(self) -> dict[str, Any]:
        """The JSON schema that the answer should have."""
        return schema(self.wording.kinds, two=self.other is not None)


def requests_of(
    passages: Sequence[Passage], wording: Wording, model: str, parameters: Mapping[str, Any]
) -> list[Request]:
    """Return a request for each passage, and for each with the next of its document if wanted."""

    def request(passage: Passage, other: Passage | None) -> Request:
        messages = wording.messages(passage, other)
        key = key_of(passage.id, messages, model, dict(parameters))
        return Request(key, passage, other, wording)

    single = any(kind != "multi-passage" for kind in wording.kinds)
    following = _following(passages) if "multi-passage" in wording.kinds else {}
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


def spread(passages: Sequence[Passage], number: int) -> list[Passage]:
    """Return `number` passages at equal distances over the table."""
    return list(_spread(passages, min(number, len(passages))))


def _spread(passages: Sequence[Passage], number: int) -> Iterator[Passage]:
    for place in range(number):
        yield passages[place * len(passages) // number]
