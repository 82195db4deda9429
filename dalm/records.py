"""The records that flow through every stage, from Passage and Example to Hit and Answer."""

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PROVENANCE = ("document", "source", "headings", "page", "start", "end")
"""Fields of a passage, and columns of a table of passages, that say where it was taken from."""
_FIELDS = ("id", "text", "title", *PROVENANCE)
_OF_HIT = ("score", "scores", "ranks", "relevant")
_NOTHING: Mapping[str, Any] = {}  # one for all passages and hits: there are millions


def normalise(text: str) -> str:
    """Return the text as it is compared: NFKC, lower case, runs of white space as one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def passage_id(text: str) -> str:
    """Return a passage's content hash: 16 hexadecimal digits (64 bits) of its normalised text.

    Two passages with the same normalised text are the same passage, whatever rows they stand in.
    """
    return hashlib.blake2b(normalise(text).encode(), digest_size=8).hexdigest()


def question_id(query: str) -> str:
    """Return a question's content hash, as of a passage.

    Rows with the same one are one question with several gold passages and answers, in training,
    mining and evaluation alike.
    """
    return passage_id(query)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that can be retrieved, and its provenance: where it was taken from.

    `document` identifies the document and `source` names its file (and row); `headings` are those
    above the passage, outermost first; `page` counts from 1; `start` and `end` are the span in the
    document's text; `extra` holds further columns of a table of passages. Provenance takes no part
    in equality and hash: the same text from two files is one passage.
    """

    id: str
    text: str
    title: str = ""
    document: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    headings: tuple[str, ...] = field(default=(), compare=False)
    page: int | None = field(default=None, compare=False)
    start: int | None = field(default=None, compare=False)
    end: int | None = field(default=None, compare=False)
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, compare=False, repr=False)

    @classmethod
    def of(cls, text: str, title: str = "", **provenance: Any) -> "Passage":
        """Make a passage whose id is its content hash."""
        return cls(passage_id(text), text, title, **provenance)

    def with_provenance(self, other: "Passage") -> "Passage":
        """Return this passage with the provenance of another."""
        return replace(self, **{name: getattr(other, name) for name in (*PROVENANCE, "extra")})

    @property
    def of_document(self) -> str:
        """What passages of one document have in common: its id or title, or else their own id."""
        return self.document or self.title or self.id

    @property
    def place(self) -> str:
        """Where a reader finds the passage: `manual.pdf, page 12`; empty if nothing is known."""
        page = "" if self.page is None else f"page {self.page}"
        return ", ".join(part for part in (self.source or self.title, page) if part)

    def provenance(self) -> dict[str, Any]:
        """Return what is known of the passage's origin, for JSON; `extra` columns come last.

        Keys are `document`, `source`, `headings`, `page`, `start` and `end`; empty ones, and
        numbers that JSON doesn't have (infinite ones), are absent.
        """
        known = {name: getattr(self, name) for name in PROVENANCE}
        known["headings"] = list(self.headings)
        known |= {name: value for name, value in self.extra.items() if name not in _FIELDS}
        return {
            name: value
            for name, value in known.items()
            if value not in (None, "", []) and not _is_infinite(value)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the passage as a JSON object that `from_dict` reads."""
        return {"id": self.id, "text": self.text, "title": self.title, **self.provenance()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Passage":
        """Make a passage of a JSON object; what is no field of a passage becomes `extra`.

        Raises TypeError without an id or a text, or for a field of another type.
        """
        known = {name: record[name] for name in _FIELDS if name in record}
        for name, value in known.items():
            if not _fits(name, value):
                raise TypeError(f"{name} is {value!r:.60}")
        known["headings"] = tuple(known.get("headings", ()))
        extra = {name: value for name, value in record.items() if name not in _FIELDS}
        return cls(**known, extra=extra)


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _fits(name: str, value: object) -> bool:
    """Tell whether a value of JSON can be a field of a passage."""
    if name in ("page", "start", "end"):
        return value is None or (type(value) is int and value >= 0)
    if name == "headings":
        return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def distinct_by_id(passages: Iterable[Passage]) -> list[Passage]:
    """Return the first passage of each id, in their order."""
    first: dict[str, Passage] = {}
    for passage in passages:
        first.setdefault(passage.id, passage)
    return list(first.values())


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


def gold_passages(examples: Iterable[Example]) -> dict[str, list[Passage]]:
    """Return the distinct gold passages of each question, by `question_id`, in the rows' order."""
    golds: dict[str, dict[str, Passage]] = {}
    for example in examples:
        of_question = golds.setdefault(question_id(example.query), {})
        if example.passage is not None:
            of_question.setdefault(example.passage.id, example.passage)
    return {question: list(passages.values()) for question, passages in golds.items()}


NO_SCORE = float("-inf")
"""Score of a candidate that the teacher rules out, or hasn't seen."""


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate passage of a question, and a teacher's score of it; higher is better.

    The scale is the teacher's. None: the teacher rules the passage out.
    """

    passage: Passage
    score: float | None

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ScoredCandidate":
        """Make a candidate of a JSON object: a passage, and its `score`.

        Raises TypeError without an id, a text or a score, or for a field of another type.
        """
        known = dict(record)
        score = known.pop("score", "missing")
        if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
            raise TypeError(f"score is {score!r:.60}")
        if score is not None and not math.isfinite(score):
            raise TypeError(f"score is {score}")
        return cls(Passage.from_dict(known), None if score is None else float(score))


def best_first(candidates: Iterable[ScoredCandidate]) -> list[ScoredCandidate]:
    """Return candidates by their scores; those without one stand last, in their order."""
    return sorted(candidates, key=lambda c: math.inf if c.score is None else -c.score)


@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """A question with its candidate passages as a teacher scores them, best first.

    `positive` is the candidate that the scores say answers it, None if they don't say; `negatives`
    are candidates that score so far below it that they don't. `temperature` is what the teacher
    would divide its scores by in a softmax over them, None if it doesn't say.
    """

    query: str
    answer: str | None
    candidates: tuple[ScoredCandidate, ...]
    positive: Passage | None = None
    negatives: tuple[Passage, ...] = ()
    temperature: float | None = None


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
        """The ids of the relevant passages, best grade first, of equal ones by id."""
        found = [(-grade, passage) for passage, grade in self.relevant.items() if grade >= 1]
        return [passage for _, passage in sorted(found)]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a query, with its score (higher is better).

    `scores` are those of the stages of a search that found it, by their names: dense, text, fused,
    reranked; and relevance. `ranks` are its places in the rankings of those stages, from 1.
    `relevant` is whether what was found answers the query, by the threshold of a calibrated index;
    None: there is none.
    """

    passage: Passage
    score: float
    scores: Mapping[str, float] = field(default_factory=lambda: _NOTHING, compare=False, repr=False)
    ranks: Mapping[str, int] = field(default_factory=lambda: _NOTHING, compare=False, repr=False)
    relevant: bool | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """The passage's id."""
        return self.passage.id

    def to_dict(self) -> dict[str, Any]:
        """Return the hit as a JSON object: scores, ranks, and the passage.

        A further column of the passage that is called like one of the hit's fields is left out.
        """
        known = {} if self.relevant is None else {"relevant": self.relevant}
        stages = {"scores": dict(self.scores), "ranks": dict(self.ranks)}
        passage = self.passage.to_dict().items()
        own = {name: value for name, value in passage if name not in _OF_HIT}
        return {"score": self.score, **stages, **known, **own}

    @property
    def label(self) -> str:
        """What a list of hits names it by: where the passage stands, or its id."""
        passage = self.passage
        title = passage.title if passage.source and passage.title not in passage.headings else ""
        return " · ".join(filter(None, (passage.place, title, *passage.headings))) or passage.id

    @property
    def citation(self) -> str:
        """The label with the span of characters in the document, if it is known."""
        start, end = self.passage.start, self.passage.end
        span = "" if start is None or end is None else f" · characters {start:,}-{end:,}"
        return self.label + span


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer and the hits that stood in its prompt, best first."""

    query: str
    text: str
    hits: tuple[Hit, ...] = ()
