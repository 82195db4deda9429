"""The teacher that looks for the answer in the passage."""

import pytest

from dalm.records import Passage
from dalm.teachers.answer_match import AnswerMatch, contains
from dalm.teachers.teacher import Candidates


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("RNA of around 31 kb. BCoV is", "31 KB"),
        ("a 31-kb genome", "31 kb"),
        ("It was built in the town of Ulm.", "In town of Ulm!"),
        ("大熊猫住在北京动物园。", "北京"),
        ("กรุงเทพเป็นเมืองหลวง", "เมืองหลวง"),
        ("Das Café in Straße 9", "café in STRASSE"),
    ],
)
def test_the_answer_is_in_the_passage(text: str, answer: str) -> None:
    assert contains(text, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It starts at three.", "art"),
        ("kb: 31", "31 kb"),
        ("131 kb", "31 kb"),
        ("a town", "the"),
        ("a town", "..."),
        ("a town", ""),
        ("---", "the"),
        ("", "?"),
        ("北 方的京", "北京"),
    ],
)
def test_the_answer_is_not_in_the_passage(text: str, answer: str) -> None:
    assert not contains(text, answer)


def test_scores_are_one_and_zero_in_the_order_of_the_candidates() -> None:
    passages = tuple(map(Passage.of, ("Ada lives in Ulm.", "Bela lives in Bern.", "Ulm, 1913")))
    asked = [Candidates("Where?", answer, passages) for answer in ("Ulm", "Bern", "Graz", None)]
    scores = AnswerMatch().score(asked)
    assert scores == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
