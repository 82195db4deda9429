"""Compare the best candidates of teachers with the gold passages that a table has."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from dalm.display import cell, console, show
from dalm.records import Passage
from dalm.retrieval.negatives import text_key
from dalm.teachers.answer_match import AnswerMatch, matches
from dalm.teachers.labels import Scores
from dalm.teachers.teacher import Candidates

FIRST = "first of the search"


class Agreement(NamedTuple):
    """How many questions a teacher labels, and for how many its best candidate is gold."""

    teacher: str
    labelled: int
    right: int


class LabelCheck(NamedTuple):
    """What is known of the questions that have gold passages."""

    questions: int
    without_gold: int
    """Questions of the table that have no gold passage."""
    among_candidates: int
    """Questions with a gold passage among their candidates."""
    missing: int
    """Questions none of whose gold passages is in the knowledge base."""
    agreements: tuple[Agreement, ...]


def check_labels(
    questions: Sequence[Candidates],
    scored: Sequence[Scores],
    teachers: Sequence[str],
    passages: Sequence[Passage],
) -> LabelCheck:
    """Compare the teachers, answer match and the search's first candidate with gold passages."""
    rows = [row for row, each in enumerate(questions) if each.golds]
    asked = [questions[row] for row in rows]
    there = set(map(text_key, passages))
    best: dict[str, list[int | None]] = {FIRST: [0 if each.passages else None for each in asked]}
    if any(each.answer for each in asked):
        best[AnswerMatch.name] = [_first_match(scores) for scores in matches(asked)]
    best[" ".join(teachers)] = [scored[row].best for row in rows]
    return LabelCheck(
        questions=len(asked),
        without_gold=len(questions) - len(asked),
        among_candidates=sum(bool(_keys(each) & each.golds) for each in asked),
        missing=sum(not each.golds & there for each in asked),
        agreements=tuple(_agreement(name, asked, places) for name, places in best.items()),
    )


def _keys(question: Candidates) -> set[str]:
    return set(map(text_key, question.passages))


def _first_match(scores: Sequence[float]) -> int | None:
    return scores.index(1) if 1 in scores else None


def _agreement(name: str, questions: Sequence[Candidates], best: Sequence[int | None]) -> Agreement:
    chosen = [
        text_key(each.passages[place]) in each.golds
        for each, place in zip(questions, best, strict=True)
        if place is not None
    ]
    return Agreement(name, len(chosen), sum(chosen))


def print_check(found: LabelCheck) -> None:
    """Print the comparison as a table; recall@1 where a question has one gold passage."""
    table = Table(title="Best candidate against gold passages", title_justify="left")
    table.add_column("teacher")
    for column in ("labelled", "gold, of the labelled", "gold, of all"):
        table.add_column(column, justify="right")
    for name, labelled, right in found.agreements:
        shares = (f"{right / total:.3f}" if total else "–" for total in (labelled, found.questions))
        table.add_row(cell(name), f"{labelled:,} of {found.questions:,}", *shares)
    console().print(table)
    outside = found.questions - found.among_candidates
    show(
        f"{outside:,} of {found.questions:,} questions have no gold passage among their candidates"
    )
    if found.missing:
        show(f"{found.missing:,} questions have no gold passage in the knowledge base")
    if found.without_gold:
        show(f"{found.without_gold:,} questions have no gold passage in the table: not counted")
