"""Passages that answers mark: those of `score-candidates`, counted, and what is refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.config import RetrieverOnly
from dalm.config.retriever_training import check_retriever_only
from dalm.errors import UserError
from dalm.teachers.marked_examples import marked_examples

Rows = list[dict[str, str]]


def write(file: Path, rows: Rows, *names: str) -> str:
    rows = [{name: row[name] for name in names} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def options(passages: Path, **given: Any) -> RetrieverOnly:
    return RetrieverOnly(output_dir="out", passages=[str(passages)], **given)


def test_answers_mark_the_gold_passages(
    tiny_rows: Rows, tiny_table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reworded = tiny_rows[0] | {"Answer": "said in words that stand nowhere"}
    rows = [*tiny_rows, reworded, {"Query": "Zanzibar?", "Answer": "Zanzibar"}]
    table = write(tmp_path / "questions.jsonl", rows, "Query", "Answer")
    with caplog.at_level(logging.INFO):
        found = marked_examples(table, options(tiny_table))
    marked = {each.query: each.passage.text for each in found if each.passage}
    assert marked == {row["Query"]: row["Passage"] for row in tiny_rows}
    assert [each.answer for each in found] == [row["Answer"] for row in rows[:-1]]
    assert not any(each.negatives for each in found)
    told = f"{len(rows) - 1} of {len(rows)} questions: {len(tiny_rows)} by the first passage found"
    assert f"labelled   {told} that has the answer in it, 1 by the first one found" in caplog.text
    assert "several passages found have the answer" not in caplog.text


def test_answers_in_several_passages_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passages = write(
        tmp_path / "passages.jsonl",
        [{"Passage": f"Set the {name} to 3 bar."} for name in ("pump", "fan", "boiler")],
        "Passage",
    )
    rows = [
        {"Query": f"How much does the {name} take?", "Answer": "3 bar"} for name in ("pump", "x")
    ]
    table = write(tmp_path / "questions.jsonl", rows, "Query", "Answer")
    marked_examples(table, options(Path(passages)))
    assert "for 2 of 2 questions several passages found have the answer in them" in caplog.text


def test_a_table_with_passages_is_trained_on_them(tiny_table: Path) -> None:
    with pytest.raises(UserError, match="has passages of its own in the column 'Passage'"):
        marked_examples(str(tiny_table), options(tiny_table))


def test_marked_passages_have_no_negatives() -> None:
    with pytest.raises(UserError, match="--negatives-column has no effect with --passages"):
        check_retriever_only(options(Path("passages.jsonl"), negatives_column="Wrong"))


def test_without_answers_nothing_is_marked(
    tiny_rows: Rows, tiny_table: Path, tmp_path: Path
) -> None:
    table = write(tmp_path / "questions.jsonl", tiny_rows, "Query")
    with pytest.raises(UserError, match=r"has no answers, and marking passages by answers"):
        marked_examples(table, options(tiny_table))
    rows = [{"Query": "Zanzibar?", "Answer": "Zanzibar"}]
    table = write(tmp_path / "other.jsonl", rows, "Query", "Answer")
    with pytest.raises(UserError, match="BM25 finds no passage for any of the questions"):
        marked_examples(table, options(tiny_table))


def test_a_retriever_is_trained_on_a_table_without_passages(
    tiny_models: Any,
    tiny_rows: Rows,
    tiny_table: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"Query": row["Query"], "Said": row["Answer"]} for row in tiny_rows]
    table = write(tmp_path / "questions.jsonl", rows, "Query", "Said")
    line = ["train-retriever-only", str(tiny_models.encoder), table, "--epochs", "1"]
    line += ["--device", "cpu", "--output-dir", str(tmp_path / "run")]
    assert run(app, line) == 2
    error = capsys.readouterr().err
    assert "has no column 'Passage'" in error
    line += ["--passages", str(tiny_table)]
    assert run(app, line) == 2
    assert "name their column: --answer-column NAME" in capsys.readouterr().err
    with caplog.at_level(logging.INFO):
        assert run(app, [*line, "--answer-column", "Said"]) == 0
    assert "20 questions, 10 distinct passages" in caplog.text
    assert f"next       dalm index {tiny_table}" in caplog.text
    line = [*line[:-2], "--passages", str(tiny_table), "--objective", "listwise"]
    assert run(app, [*line, "--overwrite-output-dir"]) == 2
    assert "--passages has no effect with --objective listwise" in capsys.readouterr().err
