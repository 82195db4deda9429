"""The record that flows through the making of questions."""

from dataclasses import dataclass

from dalm.config.data import Kind
from dalm.records import Passage


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer, with the words of the passage that support it.

    `passage.text[start:end]` is the quote once it was found there. A multi-passage pair has a
    second passage and the quote from it. `rank` is the best place of the passage among what the
    question finds, 1 first; `also` are ids of passages found that seem to answer it as well.
    """

    passage: Passage
    query: str
    answer: str
    quote: str
    kind: Kind
    generator: str
    prompt_version: str
    start: int = -1
    end: int = -1
    other: Passage | None = None
    other_quote: str = ""
    rank: int | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a gate turned away, and why."""

    gate: str
    reason: str
    passage: Passage
    query: str = ""
    answer: str = ""
    quote: str = ""
