"""Make rows to train on from feedback: questions with passages and answers that people found right.

A row's weight is the support of its passage (see `agreement`), or of its answer if no passage is
known. The rows of one question weigh 3 together at most, and those that rest on one person no more
than all others', or 20.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from dalm.records import Example, Passage, question_id
from dalm.user_feedback.agreement import ASSUMED, ASSUMED_RIGHT, Support, reliabilities, supports
from dalm.user_feedback.evidence import AnswerClaim, Evidence, PassageClaim, evidence_of
from dalm.user_feedback.feedback_store import FeedbackStore

LEAST = 0.1
"""Support that a claim needs, of either sign; conflicting evidence has less."""
OF_QUESTION = 3.0
"""Weight of a question's rows together, at most."""
OF_PERSON = 20.0
"""Weight of a person's rows together that is never cut."""
ONE = 2 * ASSUMED_RIGHT / ASSUMED - 1
"""Weight of what one person says of whom nothing is known, 0.6; such a row stands once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRow:
    """A question with a right passage, a right answer, or both, and passages found wrong."""

    query: str
    passage: Passage | None
    answer: str | None
    negatives: tuple[Passage, ...]
    weight: float
    shares: Mapping[str, float]
    """Each person's share of the weight."""
    judged_by: int
    """People who judged the passage, or the answer where there is no passage."""

    @property
    def example(self) -> Example:
        """The row as training reads it."""
        return Example(self.query, self.answer, self.passage, self.negatives)

    @property
    def copies(self) -> int:
        """How often the row stands in a training table: weight/0.6, rounded by chance.

        The chance is a hash of question and passage: the same rows give the same table.
        """
        passage = self.passage.id if self.passage else ""
        return int(self.weight / ONE + _fraction(f"{question_id(self.query)} {passage}"))


@dataclass(frozen=True, slots=True)
class FeedbackPerson:
    """What is known of a person: judgments, reliability, and weight of the rows that rest on it."""

    judgments: int
    reliability: float
    weight: float


@dataclass(frozen=True, slots=True)
class FeedbackRows:
    """The rows, the ratings of passages, and an account of what was made of the judgments."""

    rows: list[FeedbackRow]
    ratings: list[tuple[str, Passage, float]]
    """Question, passage, and its support from -1 to 1."""
    people: dict[str, FeedbackPerson]
    left_out: Counter[str]
    comparisons: Counter[str]
    conflicting: int
    """Claims whose evidence conflicts; they give no row."""
    wrong_only: int
    """Questions of which only wrong passages or answers are known; they give no row."""

    @property
    def voters(self) -> int:
        """People of whom a judgment counts."""
        return sum(person.judgments > 0 for person in self.people.values())


def feedback_rows(stores: Sequence[FeedbackStore], passages: Mapping[str, Passage]) -> FeedbackRows:
    """Return the rows that stores give; `passages` are those that are there now, by their ids."""
    found = evidence_of(stores, passages)
    reliability = reliabilities(found.votes)
    support = supports([vote for vote in found.votes if vote.claim in found.usable], reliability)
    clear = {claim: each for claim, each in support.items() if abs(each.value) >= LEAST}
    questions: dict[str, dict[PassageClaim | AnswerClaim, Support]] = defaultdict(dict)
    for claim, each in clear.items():
        assert isinstance(claim, PassageClaim | AnswerClaim)
        questions[claim.question][claim] = each
    rows = []
    for name, claims in questions.items():
        rows.append(_rows(found, name, claims, passages))
    ratings = [
        (found.queries[claim.question], passages[claim.passage], each.value)
        for claim, each in clear.items()
        if isinstance(claim, PassageClaim)
    ]
    capped = _without_floods([row for group in rows for row in group])
    weights = _weights(capped)
    people = {
        name: FeedbackPerson(count, reliability.get(name, ASSUMED_RIGHT / ASSUMED), weights[name])
        for name, count in found.judgments.items()
    }
    return FeedbackRows(
        capped,
        ratings,
        people,
        found.left_out,
        found.comparisons,
        conflicting=len(support) - len(clear),
        wrong_only=sum(not group for group in rows),
    )


def _rows(
    found: Evidence,
    question: str,
    claims: Mapping[PassageClaim | AnswerClaim, Support],
    passages: Mapping[str, Passage],
) -> list[FeedbackRow]:
    """Return a row for each right passage of a question, or one for its answer alone."""
    right = [(c, s) for c, s in claims.items() if isinstance(c, PassageClaim) and s.value > 0]
    wrong = [c for c, s in claims.items() if isinstance(c, PassageClaim) and s.value < 0]
    answers = [
        (s.value, c) for c, s in claims.items() if isinstance(c, AnswerClaim) and s.value > 0
    ]
    _, best = max(answers, default=(0.0, None))
    basis: list[tuple[Passage | None, Support]] = [(passages[c.passage], s) for c, s in right]
    if not basis and best is not None:
        basis = [(None, claims[best])]
    share = min(1.0, OF_QUESTION / max(1, len(basis)))
    return [
        FeedbackRow(
            query=found.queries[question],
            passage=passage,
            answer=found.texts[best] if best is not None else None,
            negatives=tuple(passages[claim.passage] for claim in wrong) if passage else (),
            weight=support.value * share,
            shares=support.shares,
            judged_by=support.people,
        )
        for passage, support in basis
    ]


def _without_floods(rows: Sequence[FeedbackRow]) -> list[FeedbackRow]:
    """Scale what rests on one person to the weight of all others' rows, or to `OF_PERSON`."""
    weights = _weights(rows)
    total = sum(weights.values())
    scale = {
        person: min(1.0, max(OF_PERSON, total - weight) / weight) if weight else 1.0
        for person, weight in weights.items()
    }
    return [_scaled(row, scale) for row in rows]


def _scaled(row: FeedbackRow, scale: Mapping[str, float]) -> FeedbackRow:
    parts = {person: share * scale[person] for person, share in row.shares.items()}
    total = sum(parts.values())
    shares = {person: part / total for person, part in parts.items()}
    return replace(row, weight=row.weight * total, shares=shares)


def _weights(rows: Sequence[FeedbackRow]) -> Counter[str]:
    """Return the weight of the rows that rests on each person."""
    found: Counter[str] = Counter()
    for row in rows:
        for person, share in row.shares.items():
            found[person] += row.weight * share  # type: ignore[assignment]
    return found


def is_held_out(query: str, share: float) -> bool:
    """Tell whether a question is held out for evaluation, by its hash: once held out, always."""
    return _fraction(question_id(query)) < share


def _fraction(text: str) -> float:
    """Return a number from 0 to 1 that depends on the text alone."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64


def training_examples(rows: Sequence[FeedbackRow]) -> list[Example]:
    """Return the rows as training reads them, each as often as its weight says."""
    return [row.example for row in rows for _ in range(row.copies)]
