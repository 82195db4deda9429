"""`dalm score-candidates` from the command line, and training on what it wrote."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.config import Columns
from dalm.io.examples import read_examples
from dalm.io.scored_tables import read_scored


@pytest.fixture
def call(tiny_table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Score candidates of the small table's own passages, and return the lines that were logged."""

    def score(*more: object, table: Path = tiny_table) -> str:
        caplog.clear()
        line = ["score-candidates", table, "--passages", tiny_table, "--cache-dir", tmp_path / "c"]
        line += ["--output", tmp_path / "scored.jsonl", "--overwrite-output", *more]
        with caplog.at_level(logging.INFO, "dalm"):
            assert run(app, [str(word) for word in line]) == 0
        return caplog.text

    return score


@pytest.fixture
def refused(
    tiny_table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    def score(*more: object, table: Path = tiny_table, output: str = "scored.jsonl") -> str:
        line = ["score-candidates", table, "--passages", tiny_table, "--output", tmp_path / output]
        capsys.readouterr()
        assert run(app, [str(word) for word in [*line, *more]]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert not (tmp_path / output).exists()
        return error.removeprefix("dalm: ")

    return score


def test_answer_match_marks_gold_passages_without_reading_them(
    call: Callable[..., str], tiny_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    table = tmp_path / "rows.jsonl"
    rows = [{name: row[name] for name in ("Query", "Answer")} for row in tiny_rows]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = call("--teacher", "answer-match", "--num-candidates", 5, table=table)
    assert "searching  10 passages" in log
    assert "at most 5 each, by text search with the question and answer" in log
    assert "labelled   20 of 20 questions by answer-match" in log
    assert "next       dalm train-retriever-only BAAI/bge-small-en-v1.5" in log
    assert "listwise" not in log
    examples = read_examples(tmp_path / "scored.jsonl", Columns())
    found = {each.query: each.passage.text for each in examples if each.passage}
    assert found == {row["Query"]: row["Passage"] for row in tiny_rows}


def test_two_teachers_and_what_is_trained_on_them(
    call: Callable[..., str], tiny_models: Any, tmp_path: Path
) -> None:
    generator = ("--generator-name-or-path", tiny_models.generator, "--precision", "fp32")
    retriever = ("--retriever-name-or-path", tiny_models.encoder, "--num-candidates", 4)
    log = call("--teacher", "answer-match", "generator", *generator, *retriever)
    assert "by hybrid search with the question and answer" in log
    assert "labelled   20 of 20 questions by answer-match generator" in log
    scored = read_scored(tmp_path / "scored.jsonl", Columns())
    assert {len(each.candidates) for each in scored} == {4}
    ruled_out = [c.score is None for each in scored for c in each.candidates]
    assert any(ruled_out)
    assert not all(ruled_out)
    again = call("--teacher", "answer-match", "generator", *generator, *retriever)
    assert ", 0 to be scored" in again
    assert read_scored(tmp_path / "scored.jsonl", Columns()) == scored
    command = again.partition("next       dalm ")[2].split()
    assert command[-2:] == ["--objective", "listwise"]
    assert command[:3] == ["train-retriever-only", str(tiny_models.encoder), command[2]]
    assert run(app, [*command, "--max-train-steps", "1", "--device", "cpu"]) == 0


def test_check_prints_a_table(call: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    call("--teacher", "gold", "--check", "--num-candidates", 3)
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[0] for row in cells] == ["first of the search", "answer-match", "gold"]
    assert cells[2] == ["gold", "20 of 20", "1.000", "1.000"]


def test_a_table_without_answers(
    call: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    table = tmp_path / "rows.jsonl"
    rows = [
        {"Query": "Where does Ada live?"},
        {"Query": "What does Bela keep?", "Answer": "two cats"},
    ]
    table.write_text(json.dumps(rows[0]) + "\n")
    error = refused("--teacher", "answer-match", table=table)
    assert "rows.jsonl has no answers, and --teacher answer-match needs them; name" in error
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = call("--teacher", "answer-match", table=table)
    assert "1 of 2 rows have no answer and are left out: --teacher answer-match needs one" in log
    assert "labelled   1 of 1 questions" in log


def test_a_dry_run_estimates_and_writes_nothing(
    call: Callable[..., str], tiny_models: Any, tmp_path: Path
) -> None:
    generator = ("--generator-name-or-path", tiny_models.generator, "--dry-run")
    log = call("--teacher", "answer-match", "generator", *generator, "--num-candidates", 10)
    assert re.search(
        r"dry run    generator: about 0:00:\d\d for \d+ candidates, of which \d+ took", log
    )
    assert not (tmp_path / "scored.jsonl").exists()
    assert all(not file.read_text() for file in (tmp_path / "c" / "scores").glob("*.txt"))
    assert "dry run    answer-match: seconds" in call("--teacher", "answer-match", "--dry-run")


def test_no_label_is_said(call: Callable[..., str], tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    table.write_text(json.dumps({"Query": "Where does Ada live?", "Answer": "on Mars"}) + "\n")
    log = call("--teacher", "answer-match", table=table)
    assert "no question is labelled: search more candidates, --num-candidates" in log
    assert "next  " not in log


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--teacher oracle", "--teacher oracle: no such teacher; registered are answer-match"),
        ("--teacher gold gold", "--teacher gold: named twice"),
        ("--teacher generator", "--teacher generator needs --generator-name-or-path"),
        (
            "--teacher gold --generator-name-or-path x",
            "--generator-name-or-path has no effect without --teacher generator",
        ),
        ("--teacher gold --prompt x", "--prompt has no effect without --teacher generator"),
        ("--teacher gold --search dense", "--search dense needs --retriever-name-or-path"),
        (
            "--teacher gold --search text --retriever-name-or-path x",
            "--retriever-name-or-path has no effect with --search text",
        ),
        ("--teacher gold --query-max-len 9", "--query-max-len has no effect without --retriever"),
        ("--teacher gold --precision bf16", "--precision has no effect without --retriever"),
        ("--teacher gold --num-candidates 1", "--num-candidates 1: must be a number of at least 2"),
        ("--teacher gold --negative-margin 0", "--negative-margin 0.0: must be a number over 0"),
        ("--teacher gold --retriever-name-or-path ./none", "retriever ./none: no such folder"),
    ],
)
def test_what_can_t_work_is_refused(refused: Callable[..., str], line: str, said: str) -> None:
    assert refused(*line.split()).startswith(said)


def test_the_output_is_jsonl(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "a list of candidates needs the ending .jsonl" in refused(
        "--teacher", "gold", output="scored.csv"
    )
