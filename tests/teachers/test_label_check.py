"""The comparison of best candidates with gold passages."""

import pytest

from dalm.records import Passage
from dalm.retrieval.negatives import text_key
from dalm.teachers.label_check import Agreement, check_labels, print_check
from dalm.teachers.labels import Scores
from dalm.teachers.teacher import Candidates

A, B, C, D = (Passage.of(text) for text in ("Ada: Ulm", "Bela: Ulm", "Cyrus: Graz", "Dora: Ulm"))


def asked(answer: str | None, candidates: list[Passage], *golds: Passage) -> Candidates:
    return Candidates("?", answer, tuple(candidates), frozenset(map(text_key, golds)))


QUESTIONS = [
    asked("Ulm", [C, A, B], A),  # matched first: A
    asked("Ulm", [A, B, C], B, D),  # matched first: A
    asked("Trier", [A, B, C], A),  # matched by none
    asked("Graz", [C], D),  # gold is not among the candidates, nor in the knowledge base
    asked("Ulm", [A, B]),  # without gold
    asked("Ulm", [], A),  # without candidates
]
SCORED = [
    Scores((0.0, 1.0, 2.0), 1.0, True),  # B
    Scores((0.0, 2.0, 1.0), 1.0, True),  # B, gold
    Scores((3.0, 2.0, 1.0), 1.0, True),  # A, gold
    Scores((1.0,), 1.0, True),
    Scores((1.0, 0.0), 1.0, True),
    Scores((), 1.0, False),
]


def test_best_candidates_against_gold() -> None:
    found = check_labels(QUESTIONS, SCORED, ["answer-match", "generator"], [A, B, C])
    assert found.questions == 5
    assert found.without_gold == 1
    assert found.among_candidates == 3
    assert found.missing == 1
    assert found.agreements == (
        Agreement("first of the search", 4, 1),
        Agreement("answer-match", 3, 1),
        Agreement("answer-match generator", 4, 2),
    )


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_check(check_labels(QUESTIONS, SCORED, ["generator"], [A, B, C]))
    lines = capsys.readouterr().out.splitlines()
    [row] = [line for line in lines if "answer-match" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "answer-match",
        "3 of 5",
        "0.333",
        "0.200",
    ]
    assert "2 of 5 questions have no gold passage among their candidates" in lines
    assert "1 questions have no gold passage in the knowledge base" in lines
    assert "1 questions have no gold passage in the table: not counted" in lines


def test_without_answers_there_is_no_answer_match() -> None:
    questions = [asked(None, [A, B], B)]
    found = check_labels(questions, [Scores((0.0, 1.0), 1.0, True)], ["llm"], [A, B])
    assert [each.teacher for each in found.agreements] == ["first of the search", "llm"]
