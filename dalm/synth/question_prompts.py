"""Prompt a model for queries about passages, as JSON: all that are asked for in one request."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dalm.config.query_types import ANSWER_TYPES, QUERY_TYPES
from dalm.config.questions import Kind
from dalm.llm.language_model import object_schema, response_format
from dalm.llm.response_cache import cache_key, without_length
from dalm.prompts import Message
from dalm.records import Passage
from dalm.synth.line_prompts import LinePrompt
from dalm.synth.query_mix import QueryMix, Slot
from dalm.synth.question_replies import Draft, parse

SYSTEM = """\
You write what people type into the search of an organisation's documents, to test that search. \
They have not seen any passage, and want to know something. You answer in JSON alone."""

RULES = """\
- A query stands alone: it names what it is about, so that it can be understood without the \
passage. It never speaks of "the passage", "the text", "the authors" or "this study", and has no \
pronoun for something it doesn't name.
- A query is in the words of somebody who hasn't read the passage: everyday words and synonyms in \
another order, not the passage's own phrases. Names, numbers and terms of the field stay as they \
are.
- A query has one answer, and the answer is worth knowing.
- An answer is right by the passage alone, and complete.
- A quote is copied from the passage, character for character: the one or two sentences that hold \
the answer.
- Queries and answers are in the passage's language.
- Where the passage holds nothing worth a query (a list of references, a menu), send back an \
empty list."""

MEANINGS: dict[Kind, str] = {
    "fact": "on a name, a number, a date, a definition",
    "why": "on a cause or a reason",
    "how": "on a way in which something is done or happens",
    "compare": "on what two things differ or agree in",
}

ONE = """\
{title}Passage:
{passage}

Write at most {number} queries, one for each line of this list that the passage is fit for:
{slots}

{rules}

Send back: {shape}"""

TWO = """\
{title}First passage:
{passage}

Second passage:
{other}

Write at most {number} queries, one for each line of this list that the passages are fit for:
{slots}

{rules}
- "quote" is copied from the first passage, "other_quote" from the second.

Send back: {shape}"""

SLOT = '{number}. type "{type}": {meaning} (for example: {example}){kind}. Answer: {answer}.'

SHAPE: dict[str, Any] = {
    "type": "the type as in the list",
    "query": "...",
    "answer": "...",
    "quote": "...",
}
TWO_SHAPE = SHAPE | {"other_quote": "..."}

_TYPES = [
    *((each.name, each.meaning, each.example) for each in QUERY_TYPES.values()),
    *((each.name, each.meaning) for each in ANSWER_TYPES.values()),
]
_TEXTS = (SYSTEM, RULES, json.dumps(MEANINGS), ONE, TWO, SLOT, json.dumps([SHAPE, _TYPES]))
VERSION = blake2b("\n".join(_TEXTS).encode(), digest_size=4).hexdigest()
"""A hash of every word above, so that a record names the prompt it was generated with."""


@dataclass(frozen=True)
class QuestionPrompt:
    """A prompt for queries of these types, about one passage or about two together."""

    slots: tuple[Slot, ...]
    version = VERSION

    @property
    def number(self) -> int:
        """The number of queries asked for."""
        return len(self.slots)

    @property
    def types(self) -> list[str]:
        """The types of queries asked for, each once."""
        return list(dict.fromkeys(slot.query_type for slot in self.slots))

    def messages(self, passage: Passage, other: Passage | None) -> list[Message]:
        """Return the messages that ask for the queries."""
        prompt = (ONE if other is None else TWO).format(
            title=f"Title: {passage.title}\n\n" if passage.title else "",
            passage=passage.text,
            other=other.text if other else "",
            number=self.number,
            slots="\n".join(_line(number, slot) for number, slot in enumerate(self.slots, 1)),
            rules=RULES,
            shape=json.dumps({"queries": [TWO_SHAPE if other else SHAPE]}),
        )
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]

    def schema(self, *, two: bool) -> dict[str, Any]:
        """Return the JSON schema of a reply about one passage or two, as `response_format`."""
        text = {"type": "string"}
        fields: dict[str, Any] = dict.fromkeys(TWO_SHAPE if two else SHAPE, text)
        fields["type"] = text | {"enum": self.types}
        queries = {"type": "array", "items": object_schema(fields)}
        return response_format("queries", object_schema({"queries": queries}))

    def drafts(
        self,
        text: str,
        passage: Passage,  # noqa: ARG002
        *,
        cut: bool = False,
    ) -> list[Draft]:
        """Return the queries of a reply, without the one that it is cut off in."""
        return parse(text, cut=cut)


def _line(number: int, slot: Slot) -> str:
    """Return the line of the prompt that asks for a query."""
    query = QUERY_TYPES[slot.query_type]
    return SLOT.format(
        number=number,
        type=query.name,
        meaning=query.meaning,
        example=query.example,
        kind=f", {MEANINGS[slot.kind]}" if slot.kind else "",
        answer=ANSWER_TYPES[slot.answer_type].meaning,
    )


@dataclass(frozen=True, slots=True)
class QuestionRequest:
    """A request for questions about one passage, or about two of one document together.

    `key` is the hash of passage, prompt, model and parameters.
    """

    key: str
    passage: Passage
    other: Passage | None
    prompt: QuestionPrompt | LinePrompt

    @property
    def about(self) -> dict[str, str]:
        """The passage, for people who read the journal."""
        return {"passage": self.passage.id}

    @property
    def messages(self) -> list[Message]:
        """The prompt, built when it is needed: a million of them would fill the memory."""
        return self.prompt.messages(self.passage, self.other)

    @property
    def response_format(self) -> dict[str, Any] | None:
        """The JSON schema that the reply should have."""
        return self.prompt.schema(two=self.other is not None)


def requests_of(
    passages: Sequence[Passage], mix: QueryMix, model: str, parameters: Mapping[str, Any]
) -> list[QuestionRequest]:
    """Return a request for each passage, and one for it and the next of its document if wanted."""

    def request(
        passage: Passage, prompt: QuestionPrompt | LinePrompt, other: Passage | None = None
    ) -> QuestionRequest:
        messages = prompt.messages(passage, other)
        key = cache_key(passage.id, messages, model, without_length(parameters))
        return QuestionRequest(key, passage, other, prompt)

    following = _following(passages) if "multi-passage" in mix.query_types else {}
    requests = []
    for passage in passages:
        slots = mix.slots(passage.id)
        two = [slot for slot in slots if slot.query_type == "multi-passage"]
        one = [slot for slot in slots if slot not in two]
        if mix.lines:
            requests += [request(passage, LinePrompt((slot,))) for slot in dict.fromkeys(one)]
        elif one:
            requests.append(request(passage, QuestionPrompt(tuple(one))))
        if two and passage.id in following:
            requests.append(request(passage, QuestionPrompt(tuple(two)), following[passage.id]))
    return requests


def _following(passages: Sequence[Passage]) -> dict[str, Passage]:
    """Return the next passage of its document, for each passage that has one."""
    last: dict[str, Passage] = {}
    found = {}
    for passage in passages:
        before = last.get(passage.of_document)
        if before is not None and before.id != passage.id:
            found[before.id] = passage
        last[passage.of_document] = passage
    return found
