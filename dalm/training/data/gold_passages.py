"""Know the gold passages of each row's question: rows with the same question share them."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int

from dalm.records import Example, normalise, question_id

Key = TypeVar("Key", bound=Hashable)
NONE = np.empty(0, np.int64)


class GoldPassages:
    """The gold passages of the rows' questions, as places in a list of passages.

    Rows with the same question (`question_id`) are one question with several gold passages and
    answers. `gold` is each row's own place, -1 for none. It takes memory for each row, not for each
    pair of rows, however many rows a question has.
    """

    def __init__(self, examples: Sequence[Example], gold: Int[np.ndarray, "rows"]) -> None:
        self.gold = gold
        numbers: dict[str, int] = {}
        self.questions = np.array(
            [numbers.setdefault(question_id(e.query), len(numbers)) for e in examples], np.int64
        )
        """The number of each row's question; rows with the same question have the same."""
        repeated = np.flatnonzero(np.bincount(self.questions)[self.questions] > 1).tolist()
        found = _grouped((int(self.questions[row]), int(gold[row])) for row in repeated)
        self._several = {question: places for question, places in found.items() if len(places) > 1}
        rows = [row for row in repeated if int(self.questions[row]) in self._several]
        self._answers = {row: normalise(examples[row].answer or "") for row in rows}
        self._of_answer = _grouped((self._key(row), int(gold[row])) for row in rows)

    def of(self, row: int) -> Int[np.ndarray, "golds"]:
        """Return the gold passages of a row's question, in rising order."""
        if row < 0:
            return NONE
        found = self._several.get(int(self.questions[row]))
        if found is None:
            found = self.gold[row : row + 1]
            found = found[found >= 0]
        return found

    def with_answer(self, row: int) -> Int[np.ndarray, "golds"]:
        """Return those of the question's gold passages that stand beside the row's own answer."""
        return self._of_answer.get(self._key(row), NONE) if row in self._answers else self.of(row)

    def with_other_answers(self, row: int) -> Int[np.ndarray, "golds"]:
        """Return those of the question's gold passages that stand beside other answers only."""
        if row not in self._answers:
            return NONE
        return np.setdiff1d(self.of(row), self.with_answer(row), assume_unique=True)

    def mark(
        self, rows: Sequence[int], places: Int[np.ndarray, "C"], *, with_answer: bool = False
    ) -> Bool[np.ndarray, "rows C"]:
        """Mark which passages are gold for each row's question; a row -1 has none.

        `with_answer`: those alone that stand beside the row's own answer.
        """
        of = self.with_answer if with_answer else self.of
        own = np.array([self.gold[row] if row >= 0 else -1 for row in rows], np.int64)
        marked: np.ndarray = (own[:, None] == places) & (own >= 0)[:, None]
        for n, row in enumerate(rows):
            if row in self._answers:
                marked[n] = _contained(places, of(row))
        return marked

    def _key(self, row: int) -> tuple[int, str]:
        return int(self.questions[row]), self._answers[row]


def _grouped(pairs: Iterable[tuple[Key, int]]) -> dict[Key, np.ndarray]:
    """Return each key's distinct places in rising order; -1 is none."""
    groups: dict[Key, set[int]] = {}
    for key, place in pairs:
        if place >= 0:
            groups.setdefault(key, set()).add(place)
    return {key: np.array(sorted(places), np.int64) for key, places in groups.items()}


def _contained(places: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Mark which places are among ordered ones."""
    if not len(ordered):
        return np.zeros(len(places), bool)
    found: np.ndarray = ordered[np.searchsorted(ordered[:-1], places)] == places
    return found
