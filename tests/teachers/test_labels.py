"""Scores of one teacher after another, and the positives and negatives that they make."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import pytest

from dalm.config import ScoreCandidates
from dalm.records import Passage, ScoredQuestion
from dalm.teachers.labels import Scores, label, score_in_turn
from dalm.teachers.teacher import Candidates, Teacher


class Fixed(Teacher):
    """Score passages by a table, and remember what it was asked."""

    name: ClassVar[str] = "fixed"
    label: ClassVar[str] = "a table"
    unit: ClassVar[str] = "points"
    temperature: ClassVar[float] = 1.0
    margin: ClassVar[float] = 1.0

    def __init__(self, points: dict[str, float | None], least: float = float("-inf")) -> None:
        self.points = points
        self.least_positive = least  # type: ignore[misc]
        self.asked: list[list[str]] = []

    @classmethod
    def from_config(cls, settings: Any) -> Self:
        raise NotImplementedError

    def score(self, questions: Sequence[Candidates]) -> list[list[float | None]]:
        self.asked += [[each.text for each in question.passages] for question in questions]
        return [[self.points[each.text] for each in q.passages] for q in questions]


def asked(texts: str, query: str = "Who?", answer: str = "she") -> Candidates:
    return Candidates(query, answer, tuple(map(Passage.of, texts.split())))


def options(**given: Any) -> ScoreCandidates:
    return ScoreCandidates(passages=["p"], teacher=["fixed"], output="o.jsonl", **given)


def labelled(question: Candidates, *teachers: Teacher, **given: Any) -> ScoredQuestion:
    [found] = label([question], score_in_turn(teachers, [question]), options(**given))
    return found


def texts(passages: Sequence[Passage]) -> list[str]:
    return [passage.text for passage in passages]


def scores_of(found: ScoredQuestion) -> dict[str, float | None]:
    return {each.passage.text: each.score for each in found.candidates}


def test_one_teacher() -> None:
    found = labelled(asked("a b c d"), Fixed({"a": 0.5, "b": 3.0, "c": 2.5, "d": 2.0}))
    assert list(scores_of(found).items()) == [("b", 3.0), ("c", 2.5), ("d", 2.0), ("a", 0.5)]
    assert found.positive == Passage.of("b")
    assert texts(found.negatives) == ["a", "d"], "in the order of the search; c is within 1 of b"


@pytest.mark.parametrize(
    ("given", "negatives"),
    [
        ({"num_negatives": 1}, ["a"]),
        ({"num_negatives": 0}, []),
        ({"negative_margin": 0.4}, ["a", "c", "d"]),
        ({"negative_margin": 1.5}, ["a"]),
    ],
)
def test_number_and_margin_of_negatives(given: dict[str, Any], negatives: list[str]) -> None:
    teacher = Fixed({"a": 0.5, "b": 3.0, "c": 2.5, "d": 2.0})
    assert texts(labelled(asked("a b c d"), teacher, **given).negatives) == negatives


def test_of_equal_candidates_the_search_s_first_is_the_positive() -> None:
    found = labelled(asked("a b c"), Fixed({"a": 0, "b": 1, "c": 1}))
    assert found.positive == Passage.of("b")
    assert list(scores_of(found)) == ["b", "c", "a"]
    assert texts(found.negatives) == ["a"]


def test_without_a_positive_there_are_no_negatives() -> None:
    found = labelled(asked("a b"), Fixed({"a": 0, "b": -2}, least=1))
    assert found.positive is None
    assert found.negatives == ()
    assert scores_of(found) == {"a": 0, "b": -2}
    assert labelled(asked(""), Fixed({})).candidates == ()


def test_a_further_teacher_decides_among_those_that_are_tied() -> None:
    first = Fixed({"a": 0, "b": 1, "c": 0, "d": 1, "e": 0.5}, least=1)
    second = Fixed({"b": -7.0, "d": -3.0, "e": -9.0})
    found = labelled(asked("a b c d e"), first, second)
    assert second.asked == [["b", "d", "e"]]
    assert scores_of(found) == {"d": -3, "b": -7, "e": -9, "a": None, "c": None}
    assert found.positive == Passage.of("d")
    assert texts(found.negatives) == ["a", "b", "c", "e"], "ruled out, or clearly worse"


def test_where_none_has_the_answer_the_further_teacher_decides_among_all() -> None:
    first, second = Fixed({"a": 0, "b": 0}, least=1), Fixed({"a": -3, "b": -1})
    found = labelled(asked("a b"), first, second)
    assert found.positive == Passage.of("b")
    assert scores_of(found) == {"b": -1, "a": -3}


def test_a_candidate_that_is_left_alone_is_not_scored_again() -> None:
    first, second = Fixed({"a": 0, "b": 1}, least=1), Fixed({})
    found = labelled(asked("a b"), first, second)
    assert second.asked == []
    assert scores_of(found) == {"b": 1, "a": None}
    assert (found.positive, texts(found.negatives)) == (Passage.of("b"), ["a"])


def test_a_teacher_that_can_t_say_leaves_what_was() -> None:
    dumb = Fixed({"a": None, "b": None})
    assert scores_of(labelled(asked("a b"), dumb)) == {"a": None, "b": None}
    assert labelled(asked("a b"), dumb).positive is None
    found = labelled(asked("a b"), Fixed({"a": 1, "b": 2}, least=1), dumb)
    assert found.positive == Passage.of("b")
    partly = labelled(asked("a b c"), Fixed({"a": None, "b": 2, "c": 3}))
    assert scores_of(partly) == {"c": 3, "b": 2}, "a is left out"


def test_what_is_right_in_one_row_is_no_negative_of_the_same_question() -> None:
    questions = [
        asked("a b c", answer="x"),
        asked("b c a", "who? ", answer="y"),
        asked("a b c", "?"),
    ]
    scored = [
        Scores((5.0, 1.0, 0.0), 1.0, True),
        Scores((5.0, 0.0, 0.0), 1.0, True),
        Scores((5.0, 1.0, 0.0), 1.0, True),
    ]
    found = label(questions, scored, options())
    assert [texts(each.negatives) for each in found] == [["c"], ["c"], ["b", "c"]]


def test_titles_are_a_field_of_their_own_in_the_table() -> None:
    passage = Passage.of("Ulm\nAda lives there.", "Ulm", source="ada.md")
    question = Candidates("Who?", None, (passage, Passage.of("Bela.")))
    teacher = Fixed({"Ulm\nAda lives there.": 2, "Bela.": 0})
    positive = labelled(question, teacher, prepend_title=True).positive
    assert positive is not None
    assert (positive.text, positive.title, positive.source) == ("Ada lives there.", "Ulm", "ada.md")
    assert positive.id == Passage.of("Ada lives there.").id
    assert labelled(question, teacher).positive == passage


def test_the_temperature_is_of_the_teacher_whose_scores_are_written() -> None:
    first, second = Fixed({"a": 5.0, "b": 4.5, "c": 0.0}), Fixed({"a": 1.0, "b": 2.0})
    second.temperature = 0.25  # type: ignore[misc]
    assert labelled(asked("a b c"), first, second).temperature == 0.25
    alone = Fixed({"a": 5.0, "b": 3.0, "c": 0.0})
    assert labelled(asked("a b c"), alone, second).temperature == 1.0, "no candidate is left tied"
    nothing = Fixed(dict.fromkeys("abc"))
    assert labelled(asked("a b c"), nothing).temperature is None


def test_a_candidate_that_a_teacher_cannot_score_is_no_negative() -> None:
    teacher = Fixed({"a": None, "b": 3.0, "c": 0.0, "d": None})
    found = labelled(asked("a b c d"), teacher)
    assert scores_of(found) == {"b": 3.0, "c": 0.0}
    assert (found.positive, texts(found.negatives)) == (Passage.of("b"), ["c"])
    second = Fixed({"b": 1.0, "c": 2.0})
    found = labelled(asked("a b c d"), Fixed({"a": None, "b": 1.0, "c": 1.0, "d": 0.0}), second)
    assert second.asked == [["b", "c"]]
    assert scores_of(found) == {"c": 2.0, "b": 1.0, "d": None}, "d was ruled out, a is unknown"
    assert texts(found.negatives) == ["b", "d"]
