"""Rows of feedback: what counts, what is left out, how it weighs, and who reads it."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.config import (
    Columns,
    GeneratorOnly,
    RagE2E,
    RerankerTraining,
    RetrieverOnly,
    ScoreCandidates,
)
from dalm.io.examples import read_examples
from dalm.io.tables import read_table
from dalm.records import Passage
from dalm.retrieval.index_folder import IndexFolder
from dalm.teachers.ratings import read_ratings
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.feedback_tables import log_summary
from dalm.user_feedback.judgments import AnswerRecord, ComparisonRecord, Judgment
from dalm.user_feedback.training_rows import (
    FeedbackRow,
    FeedbackRows,
    feedback_rows,
    is_held_out,
    training_examples,
)

PASSAGES = {f"p{n}": Passage(f"p{n}", f"text {n}", source="a.md") for n in range(30)}
QUESTION = "Who wrote it?"


class Judged:
    """A store with answers, and people who judge them."""

    def __init__(self, folder: Path) -> None:
        self.store = FeedbackStore.open(folder)
        self.asked = 0

    def ask(self, question: str = QUESTION, hits: str = "p1 p2", **more: Any) -> str:
        self.asked += 1
        record = AnswerRecord(
            id=f"a{self.asked}",
            question=question,
            searched=more.pop("searched", question),
            answer=more.pop("answer", "Ada did [1]."),
            generation=1,
            hits=[{"id": name, "text": PASSAGES[name].text} for name in hits.split()],
            **more,
        )
        self.store.keep_answer(record)
        return record.id

    def judge(self, answer: str, person: str, kind: Any, value: Any = None, **more: Any) -> None:
        self.store.judge(Judgment(answer_id=answer, person=person, kind=kind, value=value, **more))

    def rows(self, passages: Mapping[str, Passage] = PASSAGES) -> FeedbackRows:
        return feedback_rows([self.store], passages)


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    return Judged(tmp_path)


def only(found: FeedbackRows) -> FeedbackRow:
    (row,) = found.rows
    return row


def test_a_row_has_what_people_found_right_and_wrong(judged: Judged) -> None:
    answer = judged.ask()
    judged.judge(answer, "ada", "passage", 1, passage_id="p1")
    judged.judge(answer, "ada", "passage", -1, passage_id="p2")
    judged.judge(answer, "ada", "answer", 1)
    row = only(judged.rows())
    assert (row.query, row.passage, row.answer) == (QUESTION, PASSAGES["p1"], "Ada did.")
    assert row.negatives == (PASSAGES["p2"],)
    assert row.weight == pytest.approx(0.6)
    assert row.copies == 1
    assert row.judged_by == 1


def test_a_corrected_answer_takes_the_place_of_the_one_given(judged: Judged) -> None:
    answer = judged.ask()
    judged.judge(answer, "ada", "correction", text="Grace did.")
    row = only(judged.rows())
    assert (row.answer, row.passage) == ("Grace did.", None)
    judged.judge(answer, "bob", "answer", 1)
    judged.judge(answer, "cay", "correction", text=" grace DID. ")
    assert (only(judged.rows()).answer or "").lower() == "grace did."


def test_a_right_passage_may_be_another(judged: Judged) -> None:
    answer = judged.ask()
    judged.judge(answer, "ada", "right_passage", passage_id="p9")
    assert only(judged.rows()).passage == PASSAGES["p9"]


def test_the_newest_judgment_of_a_person_counts(judged: Judged) -> None:
    first, again = judged.ask(), judged.ask(" who wrote IT? ")
    judged.judge(first, "ada", "passage", -1, passage_id="p1")
    judged.judge(first, "ada", "passage", 1, passage_id="p1")
    judged.judge(first, "bob", "passage", 1, passage_id="p2")
    judged.judge(first, "bob", "passage", 0, passage_id="p2")
    judged.judge(again, "cay", "passage", -1, passage_id="p3")
    found = judged.rows({**PASSAGES})
    assert [row.passage for row in found.rows] == [PASSAGES["p1"]]
    assert found.left_out["replaced by a newer one"] == 2
    assert found.left_out["taken back"] == 1
    judged.judge(again, "ada", "passage", -1, passage_id="p1")  # the same thing in another answer
    assert judged.rows().rows == []


def test_conflicting_evidence_gives_no_row(judged: Judged) -> None:
    answer = judged.ask()
    judged.judge(answer, "ada", "passage", 1, passage_id="p1")
    judged.judge(answer, "bob", "passage", -1, passage_id="p1")
    found = judged.rows()
    assert found.rows == []
    assert found.conflicting == 1


def test_passages_that_are_gone_or_changed_are_left_out(judged: Judged) -> None:
    answer = judged.ask(hits="p1 p2 p3")
    for name in ("p1", "p2", "p3"):
        judged.judge(answer, "ada", "passage", 1, passage_id=name)
    judged.judge(answer, "ada", "answer", 1)
    now = {**PASSAGES, "p2": replace(PASSAGES["p2"], text="another text")}
    del now["p1"]
    found = judged.rows(now)
    row = only(found)
    assert row.passage == PASSAGES["p3"]
    assert row.answer is None  # it was read from what is gone
    assert found.left_out["gone"] == 3
    assert [passage.id for _, passage, _ in found.ratings] == ["p3"]


def test_answers_that_found_nothing_or_broke_off_are_not_learnt(judged: Judged) -> None:
    judged.judge(judged.ask(not_found=True), "ada", "answer", 1)
    judged.judge(judged.ask("What?", stopped=True), "ada", "answer", 1)
    found = judged.rows()
    assert found.rows == []
    assert (found.left_out["not found"], found.left_out["stopped"]) == (1, 1)


def test_each_judgment_counts_or_is_left_out_for_one_reason(judged: Judged, caplog: Any) -> None:
    gone, there, empty = judged.ask(hits="p1"), judged.ask(hits="p2"), judged.ask(not_found=True)
    judged.judge(gone, "ada", "correction", text="Grace did.")  # that, and not what was given
    judged.judge(gone, "bob", "answer", 1)
    judged.judge(there, "ada", "correction", text="Grace did.")
    judged.judge(there, "ada", "answer", 1)
    judged.judge(there, "ada", "answer", -1)
    judged.judge(there, "cay", "passage", 1, passage_id="p2")
    judged.judge(there, "cay", "passage", 0, passage_id="p2")
    judged.judge(empty, "bob", "answer", 1)
    judged.store.keep_comparison(ComparisonRecord(id="c", question="?", tuned="a", generation=1))
    judged.judge("c", "cay", "comparison", "a")
    found = judged.rows({"p2": PASSAGES["p2"]})
    assert +found.left_out == {
        **{"gone": 2, "not found": 1, "replaced by a newer one": 2, "taken back": 1}
    }
    assert {name: each.judgments for name, each in found.people.items()} == {"ada": 2, "bob": 0}
    caplog.set_level("INFO")
    log_summary(found)
    assert caplog.messages[0] == "judgments  2 of 9 count, of 1 people"
    assert len(judged.store.judgments()) == 9


def test_a_follow_up_question_is_the_one_that_was_searched(judged: Judged) -> None:
    answer = judged.ask(
        "And when?", searched="When was it written?", settings={"earlier_questions": [QUESTION]}
    )
    judged.judge(answer, "ada", "passage", 1, passage_id="p1")
    assert only(judged.rows()).query == "When was it written?"


def test_a_person_who_is_wrong_on_purpose_has_little_weight(judged: Judged) -> None:
    for number in range(12):
        answer = judged.ask(f"question {number}?")
        for person, sign in (("ada", 1), ("bob", 1), ("eve", -1)):
            if person != "bob" or number % 2:
                judged.judge(answer, person, "passage", sign, passage_id="p1")
                judged.judge(answer, person, "passage", -sign, passage_id="p2")
    found = judged.rows()
    assert {row.passage for row in found.rows} == {PASSAGES["p1"]}
    assert len(found.rows) == 12
    assert found.people["eve"].weight == 0
    assert found.people["eve"].reliability < 0.5 < 0.8 < found.people["ada"].reliability


def test_the_flood_of_one_person_is_capped(judged: Judged) -> None:
    for number in range(100):
        judged.judge(judged.ask(f"flood {number}?"), "eve", "passage", 1, passage_id="p1")
    for number in range(5):
        judged.judge(judged.ask(f"question {number}?"), "ada", "passage", 1, passage_id="p1")
    found = judged.rows()
    assert found.people["eve"].weight == pytest.approx(20)
    assert found.people["ada"].weight == pytest.approx(3)
    flood = [row for row in found.rows if row.query.startswith("flood")]
    assert {round(row.weight, 6) for row in flood} == {0.2}
    assert 20 < sum(row.copies for row in flood) < 47  # 33 of 100, by chance


def test_the_rows_of_one_question_are_capped(judged: Judged) -> None:
    answer = judged.ask()
    for number in range(20):
        judged.judge(answer, "ada", "right_passage", passage_id=f"p{number}")
        judged.judge(judged.ask(), "ada", "right_passage", passage_id=f"p{number}")
    found = judged.rows()
    assert len(found.rows) == 20
    assert sum(row.weight for row in found.rows) == pytest.approx(3 * 0.6)


def test_comparisons_are_counted_apart(judged: Judged) -> None:
    for number, (tuned, vote) in enumerate((("a", "a"), ("b", "a"), ("a", "tie"), ("b", "b"))):
        name = f"c{number}"
        judged.store.keep_comparison(
            ComparisonRecord(id=name, question="?", tuned=tuned, generation=1)  # type: ignore[arg-type]
        )
        judged.judge(name, "ada", "comparison", vote)
    found = judged.rows()
    assert found.comparisons == {"tuned": 2, "base": 1, "tie": 1}
    assert found.rows == []


def test_a_question_once_held_out_stays_held_out() -> None:
    questions = [f"question {number}?" for number in range(2000)]
    held = {each for each in questions if is_held_out(each, 0.2)}
    assert 340 < len(held) < 460
    assert held <= {each for each in questions if is_held_out(each, 0.3)}
    assert is_held_out("Who  IS it?", 0.2) == is_held_out("who is it?", 0.2)


def test_copies_follow_the_weight(judged: Judged) -> None:
    for number in range(200):
        answer = judged.ask(f"question {number}?")
        for person in ("ada", "bob"):
            judged.judge(answer, person, "passage", 1, passage_id="p1")
    found = judged.rows()
    wanted = sum(row.weight for row in found.rows) / 0.6
    assert len(training_examples(found.rows)) == pytest.approx(wanted, rel=0.1)
    assert found.rows == judged.rows().rows


# The command


@pytest.fixture(scope="module")
def judged_index(
    people: Path, tiny_models: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Passage]]:
    """An index of people with judgments of ten questions."""
    folder = tmp_path_factory.mktemp("judged") / "index"
    line = ["index", people, "--index-dir", folder, "--retriever-name-or-path", tiny_models.encoder]
    assert run(app, [str(part) for part in line]) == 0
    store = IndexFolder(folder).current().store
    passages = [Passage(name, text) for name, text in sorted(store.select(("id", "text")))]
    with FeedbackStore.open(folder) as feedback:
        for number in range(10):
            hits = [{"id": each.id, "text": each.text} for each in passages[:2]]
            record = AnswerRecord(
                id=f"a{number}", question=f"Question {number}?", searched="", answer="Ada",
                generation=1, hits=hits,
            )  # fmt: skip
            feedback.keep_answer(record)
            for person in ("ada", "bob"):
                about: Any = {"answer_id": record.id, "person": person}
                feedback.judge(
                    Judgment(kind="passage", value=1, passage_id=passages[0].id, **about)
                )
                feedback.judge(
                    Judgment(kind="passage", value=-1, passage_id=passages[1].id, **about)
                )
                feedback.judge(Judgment(kind="correction", text=f"Answer {number}", **about))
    return folder, passages


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_training_command_reads_the_table(
    judged_index: tuple[Path, list[Passage]], tmp_path: Path, ending: str
) -> None:
    folder, passages = judged_index
    train, held_out = tmp_path / f"rows{ending}", tmp_path / f"held{ending}"
    ratings = tmp_path / f"ratings{ending}"
    line = ["feedback", folder, "--output", train, "--held-out", held_out, "--ratings", ratings]
    assert run(app, [str(part) for part in (*line, "--held-out-share", "0.4")]) == 0
    of_train, of_held = (
        {each.query for each in read_examples(path, Columns())} for path in (train, held_out)
    )
    assert of_train | of_held == {f"Question {number}?" for number in range(10)}
    assert not of_train & of_held
    for settings in (
        RetrieverOnly(output_dir="x"),
        RerankerTraining(output_dir="x"),
        RagE2E(output_dir="x"),
        GeneratorOnly(output_dir="x"),
    ):
        needs = ("query", "passage", "answer") if hasattr(settings, "answer_column") else ("query",)
        examples = read_examples(train, settings, needs=needs)  # type: ignore[arg-type]
        assert {each.query for each in examples} == of_train
        for each in examples:
            assert each.passage is not None
            assert each.passage.text == passages[0].text
            if hasattr(settings, "answer_column"):
                assert each.answer == each.query.replace("Question", "Answer").rstrip("?")
            if hasattr(settings, "negatives_column"):
                assert [n.text for n in each.negatives] == [passages[1].text]
    assert all(0.9 < float(weight) <= 1 for weight in read_table(train).texts("Weight"))
    assert set(read_table(train).texts("Judgments")) == {"2"}
    settings = ScoreCandidates(teacher=["feedback"], passages=["x"], output="y")
    rated = list(read_ratings(read_table(ratings), settings))
    assert {each.query for each in rated} == of_train
    assert {(each.passage_id, each.value > 0.9) for each in rated} == {
        (passages[0].id, True),
        (passages[1].id, False),
    }


def test_what_is_forgotten_is_in_no_table(
    judged_index: tuple[Path, list[Passage]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(judged_index[0], tmp_path / "index")
    rows = tmp_path / "rows.jsonl"
    line = ["feedback", folder, "--output", rows, "--forget-question", "question 3?"]
    line += ["--forget-person", "bob", "--list-people"]
    assert run(app, [str(part) for part in line]) == 0
    assert "Question 3?" not in rows.read_text()
    assert {round(float(w), 2) for w in read_table(rows).texts("Weight")} == {0.6}
    assert "bob" not in capsys.readouterr().out


def test_files_that_cannot_be_written_are_refused_before_anything_is_deleted(
    judged_index: tuple[Path, list[Passage]], tmp_path: Path
) -> None:
    folder, _ = judged_index
    taken = tmp_path / "rows.csv"
    taken.write_text("mine")
    line = ["feedback", folder, "--forget-person", "ada", "--output"]
    for more in (
        [taken],
        [tmp_path / "rows.doc"],
        [tmp_path / "a.csv", "--ratings", tmp_path / "a.csv"],
    ):
        assert run(app, [str(part) for part in (*line, *more)]) == 2
    with FeedbackStore.open(folder) as store:
        assert {each.person for each in store.judgments()} == {"ada", "bob"}


def test_all_tables_are_written_or_none(
    judged_index: tuple[Path, list[Passage]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, held_out = tmp_path / "rows.csv", tmp_path / "held.csv"
    line = ["feedback", judged_index[0], "--output", train, "--held-out", held_out]
    assert run(app, [str(part) for part in (*line, "--held-out-share", "0.0001")]) == 2
    assert "--held-out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_index_without_feedback_is_told_how_to_collect_some(
    people: Path, tiny_models: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    line = ["index", people, "--index-dir", folder, "--retriever-name-or-path", tiny_models.encoder]
    assert run(app, [str(part) for part in line]) == 0
    assert run(app, ["feedback", str(folder)]) == 2
    assert "--feedback" in capsys.readouterr().err
