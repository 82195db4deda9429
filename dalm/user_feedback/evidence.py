"""Turn judgments into votes on claims: that a passage, or an answer, is right for a question."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dalm.rag.citations import without_citations
from dalm.records import Passage, normalise, question_id
from dalm.user_feedback.agreement import Vote
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.judgments import AnswerRecord, Judgment


class PassageClaim(NamedTuple):
    """That a passage answers a question."""

    question: str
    passage: str


class AnswerClaim(NamedTuple):
    """That a text is a right answer to a question; the text is normalised."""

    question: str
    answer: str


@dataclass
class Evidence:
    """The votes that count, and what was left out.

    `votes` are all that say something of a person; `usable` are the claims that rows can be made
    of: of passages that are there, and of answers that were read from such alone.
    """

    votes: list[Vote] = field(default_factory=list)
    usable: set[PassageClaim | AnswerClaim] = field(default_factory=set)
    queries: dict[str, str] = field(default_factory=dict)
    """Questions by their ids, as they were last asked."""
    texts: dict[AnswerClaim, str] = field(default_factory=dict)
    """Answers as they were written."""
    judgments: Counter[str] = field(default_factory=Counter)
    """Judgments that count, by person; 0 of a person all of whose are left out."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Judgments that are left out, by reason. Each judgment counts, is left out, or compares."""
    comparisons: Counter[str] = field(default_factory=Counter)
    """Votes in comparisons: tuned, base, tie, neither."""


def evidence_of(stores: Sequence[FeedbackStore], passages: Mapping[str, Passage]) -> Evidence:
    """Return the evidence of stores; `passages` are those that are there now, by their ids."""
    found = Evidence()
    said: dict[tuple[str, PassageClaim | AnswerClaim], bool] = {}
    for store in stores:
        answers = {each.id: each for each in store.answers()}
        newest = _newest(store.judgments(), found.left_out)
        _count_comparisons(store, newest, found)
        rated = {(e.person, e.answer_id) for e in newest if e.kind == "answer"}
        for judgment in newest:
            answer = answers.get(judgment.answer_id)
            if answer is None:
                continue  # a comparison
            claims = _claims(judgment, answer, rated, found.left_out)
            there = [_is_there(claim, answer, passages) for claim, _ in claims]
            found.judgments[judgment.person] += any(there)
            found.left_out["gone"] += bool(claims) and not any(there)
            for claim, right in claims:
                found.queries[claim.question] = query_of(answer)
                if isinstance(claim, AnswerClaim):
                    text = judgment.text if judgment.kind == "correction" and right else None
                    found.texts[claim] = without_citations(text or answer.answer)
                said[judgment.person, claim] = right
            found.usable |= {claim for (claim, _), kept in zip(claims, there, strict=True) if kept}
    found.votes = [Vote(person, claim, right) for (person, claim), right in said.items()]
    return found


def query_of(answer: AnswerRecord) -> str:
    """Return the question of a row: of a follow-up what was searched, which stands alone."""
    return answer.searched if answer.settings.get("earlier_questions") else answer.question


def _newest(judgments: Sequence[Judgment], left_out: Counter[str]) -> list[Judgment]:
    """Return each person's newest judgment of each thing, oldest first."""
    newest: dict[tuple[str, tuple[str, str, str]], Judgment] = {}
    for each in sorted(judgments, key=lambda judgment: (judgment.at, judgment.id)):
        key = (each.person, each.thing)
        left_out["replaced by a newer one"] += newest.pop(key, None) is not None
        newest[key] = each
    standing = [each for each in newest.values() if not each.taken_back]
    left_out["taken back"] += len(newest) - len(standing)
    return standing


def _claims(
    judgment: Judgment,
    answer: AnswerRecord,
    rated: set[tuple[str, str]],
    left_out: Counter[str],
) -> list[tuple[PassageClaim | AnswerClaim, bool]]:
    """Return what a judgment says: which claims are right or wrong."""
    question = question_id(query_of(answer))
    if judgment.kind in ("passage", "right_passage"):
        right = judgment.kind == "right_passage" or judgment.value == 1
        return [(PassageClaim(question, judgment.passage_id or ""), right)]
    given = AnswerClaim(question, normalise(without_citations(answer.answer)))
    if judgment.kind == "correction":
        corrected = AnswerClaim(question, normalise(without_citations(judgment.text or "")))
        said: list[tuple[PassageClaim | AnswerClaim, bool]] = [(corrected, True)]
        if (judgment.person, answer.id) not in rated and given != corrected:
            said.append((given, False))
        return said
    if answer.not_found or answer.stopped or not given.answer:
        left_out["not found" if answer.not_found else "stopped"] += 1
        return []
    return [(given, judgment.value == 1)]


def _is_there(
    claim: PassageClaim | AnswerClaim, answer: AnswerRecord, passages: Mapping[str, Passage]
) -> bool:
    """Tell whether a passage is as it was judged, or all are that an answer was read from."""

    def same(name: str, text: str | None) -> bool:
        now = passages.get(name)
        return now is not None and (text is None or normalise(text) == normalise(now.text))

    read = {str(hit["id"]): str(hit["text"]) for hit in answer.hits}
    if isinstance(claim, PassageClaim):
        return same(claim.passage, read.get(claim.passage))
    return all(same(name, text) for name, text in read.items())


def _count_comparisons(store: FeedbackStore, newest: Sequence[Judgment], found: Evidence) -> None:
    tuned = {each.id: each.tuned for each in store.comparisons()}
    for each in newest:
        if each.kind == "comparison" and each.answer_id in tuned:
            side = "tuned" if each.value == tuned[each.answer_id] else "base"
            found.comparisons[side if each.value in ("a", "b") else str(each.value)] += 1
