"""The teacher that goes by people's ratings."""

import json
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.config import Columns, ScoreCandidates
from dalm.errors import UserError
from dalm.io.scored_tables import read_scored
from dalm.records import Passage
from dalm.teachers.labels import label, score_in_turn
from dalm.teachers.ratings import Feedback
from dalm.teachers.teacher import Candidates

KNOWN = tuple(map(Passage.of, ("a", "b", "c", "d")))


def made(tmp_path: Path, *rows: dict[str, Any]) -> Feedback:
    table = tmp_path / "feedback.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ScoreCandidates(
        passages=["p"], teacher=["feedback"], output="o.jsonl", feedback=str(table)
    )
    Feedback.check(settings)
    return Feedback.from_config(settings)


def rated(passage: str, rating: object, query: str = "Who?") -> dict[str, object]:
    return {"Query": query, "Passage": passage, "Rating": rating}


def asked(query: str, texts: str) -> Candidates:
    return Candidates(query, None, tuple(map(Passage.of, texts)))


def test_a_score_is_the_mean_and_0_where_nobody_said_anything(tmp_path: Path) -> None:
    teacher = made(
        tmp_path,
        *(rated("a", "up"), rated("a", "down"), rated("a", "👍"), rated("b", "Down")),
        *({"Query": "who?", "Passage": "", "PassageId": Passage.of("d").id, "Rating": "up"},),
        rated("e", "up", "Else?"),
    )
    questions = [asked("Who?", "abc"), asked("Nobody?", "ab"), asked("Else?", "a")]
    found = teacher.add_candidates(questions, KNOWN)
    assert ["".join(p.text for p in each.passages) for each in found] == ["abcd", "ab", "ae"]
    [first, nobody, other] = teacher.score(found)
    assert first == pytest.approx([1 / 3, -1, 0, 1])
    assert (nobody, other) == ([None, None], [0, 1])


def test_what_is_unrated_is_between_right_and_wrong(tmp_path: Path) -> None:
    """One liked: it is the positive. Only a disliked one: the others are left to a further one."""
    teacher = made(tmp_path, rated("b", 1), rated("a", -1, "Where?"))
    settings = ScoreCandidates(passages=["p"], teacher=["feedback"], output="o.jsonl")
    found = teacher.add_candidates([asked("Who?", "abc"), asked("Where?", "abc")], KNOWN)
    scored = score_in_turn([teacher], found)
    liked, disliked = label(found, scored, settings)
    assert liked.positive == Passage.of("b")
    assert [p.text for p in liked.negatives] == ["a", "c"]
    assert (disliked.positive, disliked.negatives) == (None, ())
    assert scored[1].not_worse() == [1, 2], "a is ruled out"


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ((5, 0, 2.5, 4), (1, -1, 0, 0.6)),
        ((1, -1, 0, 0.5), (1, -1, 0, 0.5)),
        ((1, 0, 1, 0), (1, -1, 1, -1)),
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((0, 0), (-1, -1)),
        (("+1", 0), (1, 0)),
        ((True, False, "yes", "no"), (1, -1, 1, -1)),
        (("+1", "-1", "up", "1.0"), (1, -1, 1, 1)),
    ],
)
def test_scales(tmp_path: Path, given: tuple[object, ...], values: tuple[float, ...]) -> None:
    teacher = made(tmp_path, *(rated(str(row), each) for row, each in enumerate(given)))
    assert [each.value for each in teacher.ratings] == pytest.approx(values)


def test_ratings_are_refused_before_anything_is_searched(tmp_path: Path) -> None:
    table = tmp_path / "feedback.jsonl"
    table.write_text(json.dumps(rated("p", "so so")) + "\n")
    given = {"passages": ["p"], "teacher": ["feedback"], "output": "o.jsonl"}
    with pytest.raises(UserError, match="is no rating"):
        Feedback.check(ScoreCandidates(**given, feedback=str(table)))
    with pytest.raises(UserError, match=r"no file or folder .*none\.csv"):
        Feedback.check(ScoreCandidates(**given, feedback=str(tmp_path / "none.csv")))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"Query": "q", "Passage": "p"}], "has no column 'Rating'; --feedback needs a row"),
        ([{"Query": "q", "Rating": "up"}], "Passage"),
        ([{"Passage": "p", "Rating": "up"}], "Query"),
        ([rated("p", "so so")], "line 1, column 'Rating': 'so so' is no rating: up or down"),
        ([rated("p", 6)], "'6' is no rating"),
        ([rated("p", "nan")], "'nan' is no rating"),
        ([rated("p", 4), rated("p", -1)], "ratings from -1 to 4 are on two scales"),
        ([{"Query": "q", "Passage": "", "PassageId": "", "Rating": 1}], "a rating of no passage"),
    ],
)
def test_what_is_no_rating_is_refused(
    tmp_path: Path, rows: list[dict[str, object]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        made(tmp_path, *rows)


def test_unknown_passages_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = made(tmp_path, {"Query": "Who?", "PassageId": "gone", "Rating": 1}, rated("a", ""))
    assert len(teacher.ratings) == 1
    found = teacher.add_candidates([asked("Who?", "a")], KNOWN)
    assert teacher.score(found) == [[None]]
    assert "1 of 1 ratings are of passages that --passages doesn't have" in caplog.text


def test_the_command_takes_ratings_and_then_another_teacher(
    tmp_path: Path, tiny_rows: list[dict[str, str]], tiny_table: Path
) -> None:
    """Of the first question another passage was liked, of the second its own was disliked."""
    other = tiny_rows[10]["Passage"]
    rows = [
        {"Query": tiny_rows[0]["Query"], "Passage": other, "Rating": "up"},
        {"Query": tiny_rows[1]["Query"], "Passage": tiny_rows[1]["Passage"], "Rating": "down"},
    ]
    table = tmp_path / "feedback.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["score-candidates", tiny_table, "--passages", tiny_table, "--num-candidates", 2]
    line += ["--teacher", "feedback", "answer-match", "--feedback", table]
    line += ["--output", tmp_path / "scored.jsonl", "--cache-dir", tmp_path / "cache"]
    assert run(app, [str(word) for word in line]) == 0
    scored = read_scored(tmp_path / "scored.jsonl", Columns())
    positives = {each.query: each.positive and each.positive.text for each in scored}
    expected = {row["Query"]: row["Passage"] for row in tiny_rows}
    expected |= {tiny_rows[0]["Query"]: other}
    disliked = tiny_rows[1]["Query"]
    assert positives.pop(disliked) != expected.pop(disliked)
    assert positives == expected
    assert len(scored[0].candidates) == 3
