"""Prompt a small model for one query at a time, by a worked example, and read its two lines.

A model of a few hundred million parameters neither follows a list of types nor writes JSON; it can
imitate an example. It copies no quote either: the sentence that holds its answer is taken.
"""

import itertools
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dalm.config.query_types import EXAMPLE_PASSAGE, QUERY_TYPES
from dalm.ingest.sentence_boundaries import sentence_starts
from dalm.ingest.words import content_words, words
from dalm.llm.json_replies import one_line
from dalm.llm.thoughts import without_thoughts
from dalm.prompts import Message
from dalm.records import Passage
from dalm.synth.query_checks import stem
from dalm.synth.query_mix import Slot
from dalm.synth.question_replies import Draft

SYSTEM = "You write what people type into a search engine, and answer it from a passage."
ASKED = """\
{title}Passage: {passage}

Write {meaning}. Then give its answer, in the words of the passage."""
REPLY = "{label}: {query}\nAnswer: {answer}"
_ANSWER = re.compile(r"\n\s*(?:answer|a)\s*[:：]", re.IGNORECASE)
_LABEL = re.compile(r"^[\w-]+\s*[:：]\s*")

_TYPES = [str(each) for each in QUERY_TYPES.values()]
VERSION = blake2b(
    "\n".join((SYSTEM, ASKED, REPLY, EXAMPLE_PASSAGE, *_TYPES)).encode(), digest_size=4
).hexdigest()
"""A hash of every word above, so that a record names the prompt it was generated with."""


@dataclass(frozen=True)
class LinePrompt:
    """A prompt for one query about one passage."""

    slots: tuple[Slot, ...]
    version = VERSION

    def messages(self, passage: Passage, other: Passage | None) -> list[Message]:
        """Return the worked example as a turn of the conversation, then what is asked for."""
        assert other is None
        query = QUERY_TYPES[self.slots[0].query_type]
        title = f"Title: {passage.title}\n" if passage.title else ""
        reply = REPLY.format(
            label=query.name.capitalize(), query=query.example, answer=query.example_answer
        )
        example = ASKED.format(title="", passage=EXAMPLE_PASSAGE, meaning=query.meaning)
        asked = ASKED.format(title=title, passage=passage.text, meaning=query.meaning)
        return [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": example},
            {"role": "assistant", "content": reply},
            {"role": "user", "content": asked},
        ]

    def schema(self, *, two: bool) -> dict[str, Any] | None:  # noqa: ARG002
        """Return None: the reply is no JSON."""
        return None

    def drafts(self, text: str, passage: Passage, *, cut: bool = False) -> list[Draft]:
        """Return the query of a reply; what comes after the answer's paragraph is left out.

        None if it is cut off within that paragraph: half an answer may be a wrong one.
        """
        before, *after = _ANSWER.split(without_thoughts(text).strip(), maxsplit=1)
        lines = [line.strip() for line in before.splitlines() if line.strip()]
        if not lines or not after:
            return []
        query = one_line(_LABEL.sub("", lines[0]))
        paragraph, end, _ = after[0].lstrip().partition("\n\n")
        if cut and not end:
            return []
        answer = one_line(paragraph)
        kind = self.slots[0].query_type
        return [Draft(query, answer, supporting_sentence(passage.text, answer), kind=kind)]


def supporting_sentence(text: str, answer: str) -> str:
    """Return the first of the sentences that hold most of an answer's words; none: empty."""
    wanted = set(map(stem, content_words(answer) or words(answer)))
    cuts = [0, *sentence_starts(text), len(text)]
    sentences = [text[start:end].strip() for start, end in itertools.pairwise(cuts)]
    best = max(sentences, key=lambda each: _held(wanted, each), default="")
    return best if _held(wanted, best) else ""


def _held(wanted: set[str], sentence: str) -> int:
    return len(wanted.intersection(map(stem, words(sentence))))
