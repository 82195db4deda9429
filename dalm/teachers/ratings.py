"""Score passages by what people said of them."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, NamedTuple, Self

from dalm.config import ScoreCandidates
from dalm.errors import UserError
from dalm.io.columns import find_columns
from dalm.io.tables import Table, read_table
from dalm.records import Passage, question_id
from dalm.retrieval.negatives import text_key
from dalm.teachers.teacher import Candidates, Teacher, required

logger = logging.getLogger(__name__)

RATING, PASSAGE_ID = "Rating", "PassageId"
WORDS = {
    **dict.fromkeys(("up", "thumbs up", "👍", "like", "good", "yes", "true", "+1"), 1.0),
    **dict.fromkeys(("down", "thumbs down", "👎", "dislike", "bad", "no", "false"), -1.0),
}
STARS = 5.0


class Rating(NamedTuple):
    """What one person said of a passage for a question; either its text or its id is known."""

    query: str
    passage: Passage | None
    passage_id: str
    value: float
    """From -1 to 1."""


class Feedback(Teacher):
    """Score a passage by the mean of its ratings for the question, from -1 to 1.

    A candidate that nobody has rated has 0: less than one that people found right, more than one
    that they found wrong. A question of which no passage is rated has no scores. The passages that
    were rated become candidates wherever the search has ranked them.
    """

    name: ClassVar[str] = "feedback"
    label: ClassVar[str] = "ratings by people"
    unit: ClassVar[str] = "mean rating from -1 to 1"
    temperature: ClassVar[float] = 0.2
    margin: ClassVar[float] = 0.5
    least_positive: ClassVar[float] = 0.5

    def __init__(self, ratings: Sequence[Rating]) -> None:
        self.ratings = ratings
        self._means: dict[str, dict[str, float]] = {}  # by question, by id of the passage

    @classmethod
    def check(cls, settings: ScoreCandidates) -> None:
        """Refuse no table of ratings, and one that can't be read or holds something else."""
        required(settings, cls.name, "feedback")
        cls.from_config(settings)

    @classmethod
    def from_config(cls, settings: ScoreCandidates) -> Self:
        """Read the ratings."""
        table = read_table(required(settings, cls.name, "feedback"), encoding=settings.encoding)
        return cls(list(read_ratings(table, settings)))

    def add_candidates(
        self, questions: Sequence[Candidates], passages: Sequence[Passage]
    ) -> list[Candidates]:
        """Return the questions with their rated passages behind those of the search."""
        rated = self._rated(passages)
        self._means = {
            question: {name: fmean(values) for name, (_, values) in by_id.items()}
            for question, by_id in rated.items()
        }
        found = []
        for each in questions:
            there = {passage.id for passage in each.passages}
            known = rated.get(question_id(each.query), {})
            more = (passage for name, (passage, _) in known.items() if name not in there)
            found.append(replace(each, passages=(*each.passages, *more)))
        asked = {question_id(each.query) for each in questions}
        logger.info(
            "feedback   %d ratings of %d questions, of which %d are among those asked; "
            "%d candidates added",
            *(len(self.ratings), len(rated), len(rated.keys() & asked)),
            sum(len(b.passages) - len(a.passages) for a, b in zip(questions, found, strict=True)),
        )
        return found

    def score(self, questions: Sequence[Candidates]) -> list[list[float | None]]:
        """Return the mean ratings."""
        scores: list[list[float | None]] = []
        for each in questions:
            known = self._means.get(question_id(each.query), {})
            rated = any(passage.id in known for passage in each.passages)
            scores.append([known.get(p.id, 0.0) if rated else None for p in each.passages])
        return scores

    def _rated(
        self, passages: Sequence[Passage]
    ) -> dict[str, dict[str, tuple[Passage, list[float]]]]:
        """Return each question's rated passages by their ids, with their ratings."""
        known = {key: each for each in passages for key in (text_key(each), each.id)}
        rated: dict[str, dict[str, tuple[Passage, list[float]]]] = defaultdict(dict)
        unknown = 0
        for each in self.ratings:
            name = text_key(each.passage) if each.passage else each.passage_id
            passage = known.get(name, each.passage)
            if passage is None:
                unknown += 1
                continue
            of_question = rated[question_id(each.query)]
            of_question.setdefault(passage.id, (passage, []))[1].append(each.value)
        if unknown:
            logger.warning(
                "feedback   %d of %d ratings are of passages that --passages doesn't have, and are "
                "left out",
                *(unknown, len(self.ratings)),
            )
        return rated


def read_ratings(table: Table, settings: ScoreCandidates) -> Iterator[Rating]:
    """Yield the ratings of a table with a question, a passage or its id, and a rating a row.

    Ratings are words such as up and down, or numbers on one scale for the whole table: -1 to 1;
    0 to 5 if one is above 1; 0 and 1 alone are down and up. A row without a rating is left out.

    Raises:
        UserError: a column is missing, or a rating is something else.
    """
    if not table.has(RATING):
        raise UserError(
            f"{table.name} has no column {RATING!r}; --feedback needs a row for each rating of a "
            f"passage: Query, Passage or {PASSAGE_ID}, {RATING}"
        )
    by_id = table.has(PASSAGE_ID)
    needed = {"query"} if by_id else {"query", "passage"}
    columns = find_columns(table, settings, needed, {"query", "passage", "title"})
    queries = table.texts(columns["query"])
    blank = [""] * table.rows
    texts, titles = (
        table.texts(columns[role]) if role in columns else blank for role in ("passage", "title")
    )
    ids = table.texts(PASSAGE_ID) if by_id else blank
    for row, value in _values(table).items():
        if not (texts[row].strip() or ids[row].strip()):
            raise table.bad_cell(row, RATING, "a rating of no passage; name its text or its id")
        passage = Passage.of(texts[row], titles[row]) if texts[row].strip() else None
        yield Rating(queries[row], passage, ids[row].strip(), value)


def _values(table: Table) -> dict[int, float]:
    """Return the ratings from -1 to 1, by row."""
    cells = {row: text.strip().lower() for row, text in enumerate(table.texts(RATING))}
    cells = {row: text for row, text in cells.items() if text}
    numbers = {row: _number(text) for row, text in cells.items() if text not in WORDS}
    for row, number in numbers.items():
        if number is None or not -1 <= number <= STARS:
            raise table.bad_cell(
                row, RATING, f"{cells[row]!r} is no rating: up or down, -1 to 1, or 0 to 5"
            )
    known = [number for number in numbers.values() if number is not None]
    lowest, highest = min(known, default=0.0), max(known, default=0.0)
    if lowest < 0 and highest > 1:
        raise UserError(
            f"{table.name}: ratings from {lowest:g} to {highest:g} are on two scales, -1 to 1 and "
            "0 to 5; keep to one"
        )
    only_bits = set(known) == {0.0, 1.0} or (set(known) == {0.0} and len(known) == len(cells))

    def value(row: int, text: str) -> float:
        if text in WORDS:
            return WORDS[text]
        number = numbers[row] or 0.0
        if highest > 1:
            return number / STARS * 2 - 1
        return number * 2 - 1 if only_bits else number

    return {row: value(row, text) for row, text in cells.items()}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
