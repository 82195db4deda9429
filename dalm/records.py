"""The records that flow through every stage: Passage, Example, JudgedQuery, Hit, Answer."""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field


def normalise(text: str) -> str:
    """Return the text as it is compared: NFKC, lower case, runs of white space as one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def passage_id(text: str) -> str:
    """Return a passage's content hash: 16 hexadecimal digits (64 bits) of its normalised text.

    Two passages with the same normalised text are the same passage, whatever rows they stand in.
    """
    return hashlib.blake2b(normalise(text).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that can be retrieved."""

    id: str
    text: str
    title: str = ""

    @classmethod
    def of(cls, text: str, title: str = "") -> "Passage":
        """Make a passage whose id is its content hash."""
        return cls(passage_id(text), text, title)


@dataclass(frozen=True, slots=True)
class Example:
    """A question with what is known about it.

    `passage` is the gold passage; it may be None, a question and an answer alone.
    `negatives` are passages known not to answer the question.
    """

    query: str
    answer: str | None = None
    passage: Passage | None = None
    negatives: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuery:
    """A query with what is known about it, before any system has seen it.

    `relevant` are the grades of its judged passages by their ids, relevant from 1 on. `group` is
    what it shares its difficulty with: the document, for intervals. `answerable` is None where the
    data doesn't say.
    """

    id: str
    query: str
    relevant: Mapping[str, int] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    answerable: bool | None = None
    group: str = ""

    @property
    def gold(self) -> list[str]:
        """The ids of the relevant passages, best grade first."""
        found = [(grade, passage) for passage, grade in self.relevant.items() if grade >= 1]
        return [passage for _, passage in sorted(found, key=lambda each: -each[0])]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a query, with the retriever's score (higher is better)."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer and the hits that stood in its prompt, best first."""

    query: str
    text: str
    hits: tuple[Hit, ...] = ()
