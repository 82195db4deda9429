"""Define what is kept for feedback: answers, comparisons of two systems, and judgments of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

Kind = Literal["answer", "passage", "right_passage", "correction", "comparison"]
KINDS: tuple[str, ...] = get_args(Kind)
THUMBS = (1, -1)
PREFERENCES = ("a", "b", "tie", "neither")


def now() -> str:
    """Return the time in UTC, to the millisecond: 2026-05-01T12:00:00.000Z, which sorts by time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """An answer as it was given, with everything that it depended on."""

    id: str
    question: str
    searched: str
    """The question as it was searched."""
    answer: str
    generation: int
    """Number of the index's generation."""
    asked_at: str = field(default_factory=now)
    not_found: bool = False
    """Nothing found was relevant: the answer says so, and no generator was asked."""
    stopped: bool = False
    """The answer was broken off before its end."""
    prompt: str = ""
    """The exact text that the generator read; empty if none was asked."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How it was searched and generated: mode, where, sampling."""
    models: Mapping[str, str | None] = field(default_factory=dict)
    """Names of retriever, generator and reranker."""
    hits: Sequence[Mapping[str, Any]] = ()
    """The passages read, in the order of their numbers, as `Hit.to_dict` gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRecord:
    """Two systems' answers to one question, shown side by side without saying which is which."""

    id: str
    question: str
    tuned: Literal["a", "b"]
    """The side on which the served system stood; the other is what it is compared with."""
    generation: int
    asked_at: str = field(default_factory=now)
    a: Mapping[str, Any] = field(default_factory=dict)
    """The answer of a side with its citations, as it was sent."""
    b: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """What one person says of one thing: an answer, a passage of it, or a comparison.

    The newest judgment of a person on a thing counts; earlier ones are kept. What counts by kind:

        answer          value 1 (good) or -1 (bad)
        passage         passage_id, value 1 (answers the question) or -1 (doesn't)
        right_passage   passage_id: the passage that answers the question
        correction      text: the right answer
        comparison      value "a", "b", "tie" or "neither"; answer_id is the comparison's

    A value 0, an empty passage or an empty text takes a judgment back.
    """

    answer_id: str
    person: str
    kind: Kind
    value: int | str | None = None
    passage_id: str | None = None
    text: str | None = None
    at: str = field(default_factory=now)
    id: int = 0
    """Its number in the store, which rises with time; 0 before it is stored."""

    @property
    def thing(self) -> tuple[str, str, str]:
        """What is judged: the answer, the kind, and for `passage` the passage."""
        passage = self.passage_id if self.kind == "passage" else None
        return (self.answer_id, self.kind, passage or "")

    @property
    def taken_back(self) -> bool:
        """Whether it only takes an earlier judgment back."""
        return not {
            "right_passage": self.passage_id,
            "correction": (self.text or "").strip(),
        }.get(self.kind, self.value)

    def problem(self) -> str | None:
        """Return what is wrong with the judgment's fields; None if nothing is."""
        needs_value = {
            **dict.fromkeys(("answer", "passage"), (*THUMBS, 0)),
            "comparison": (*PREFERENCES, 0, ""),
        }
        missing = {
            "passage": None if self.passage_id else "passage_id",
            "right_passage": "passage_id" if self.passage_id is None else None,
            "correction": "text" if self.text is None else None,
        }.get(self.kind)
        if self.kind not in KINDS:
            return f"kind is {self.kind!r:.60}, not one of {', '.join(KINDS)}"
        if missing:
            return f"{missing} is missing"
        values = needs_value.get(self.kind, (None, *THUMBS, 0, ""))
        if self.value not in values:
            known = ", ".join(map(repr, values))
            return f"value is {self.value!r:.60}, not one of {known}"
        return None
