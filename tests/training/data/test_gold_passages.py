"""The gold passages of a question, by hand: those of all rows that ask it."""

import numpy as np
import pytest

from dalm.records import Example
from dalm.training.data.gold_passages import GoldPassages

ROWS = [  # question, answer, place of the gold passage
    ("Who lives in Ulm?", "Ada", 4),
    ("What is tam?", "an oil", 1),
    ("who LIVES  in Ulm?", "Bela", 2),
    ("Who lives in Ulm?", "ada ", 0),
    ("Who lives in Ulm?", "Cyrus", -1),
    ("What is tam?", "Oil.", 1),
    ("Where?", "here", -1),
]


@pytest.fixture
def golds() -> GoldPassages:
    examples = [Example(query, answer) for query, answer, _ in ROWS]
    return GoldPassages(examples, np.array([place for *_, place in ROWS]))


def test_rows_with_the_same_question_share_their_gold_passages(golds: GoldPassages) -> None:
    assert golds.questions.tolist() == [0, 1, 0, 0, 0, 1, 2]
    found = [golds.of(row).tolist() for row in range(7)]
    assert found == [[0, 2, 4], [1], [0, 2, 4], [0, 2, 4], [0, 2, 4], [1], []]
    assert golds.of(-1).tolist() == []


def test_gold_passages_by_the_answer_beside_them(golds: GoldPassages) -> None:
    with_answer = [golds.with_answer(row).tolist() for row in range(7)]
    assert with_answer == [[0, 4], [1], [2], [0, 4], [], [1], []]
    others = [golds.with_other_answers(row).tolist() for row in range(7)]
    assert others == [[2], [], [0, 4], [2], [0, 2, 4], [], []]


def test_marks(golds: GoldPassages) -> None:
    rows, places = [0, 1, 6, -1, 4], np.array([0, 1, 2, 3, -1])
    marks = golds.mark(rows, places).astype(int).tolist()
    assert marks == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0] * 5, [0] * 5, [1, 0, 1, 0, 0]]
    marks = golds.mark(rows, places, with_answer=True).astype(int).tolist()
    assert marks == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0] * 5, [0] * 5, [0] * 5]


def test_ten_thousand_rows_of_one_question_take_no_pairs_of_rows() -> None:
    count = 10_000
    examples = [Example("Who?", str(row)) for row in range(count)]
    golds = GoldPassages(examples, np.arange(count))
    marked = golds.mark(list(range(64)), np.arange(128))
    assert marked.all()
    assert len(golds.with_other_answers(7)) == count - 1
    assert sum(len(places) for places in golds._of_answer.values()) == count
