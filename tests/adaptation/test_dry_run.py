"""`dalm adapt --dry-run`: what it measures, on which part of the documents, and what it leaves."""

import json
import math
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.errors import UserError


def test_a_first_dry_run_estimates_every_stage_and_writes_nothing(
    line: list[str], tmp_path: Path, caplog: Any, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    new = tmp_path / "new"
    assert run(app, [*line, "--output-dir", str(new), "--dry-run"]) == 0
    shown = capfd.readouterr().out
    about = r"about \d+ (s|min): "
    for stage, takes in {
        "passages": f"{about}10 files, 0.0 MB",
        "tables": "seconds",
        "negatives": f"{about}encodes the passages",
        "retriever": rf"{about}1 updates, 0\.\d GB",  # 12 questions, batches of 16
        "generator": rf"{about}2 updates, 0\.\d GB",  # by --stage-options
        "evaluate-human": f"{about}16 prompts and their answers",
        "index": "seconds",
    }.items():
        assert re.search(rf"^{stage} .+ runs +first time +{takes} *$", shown, re.M), stage
    assert re.search(
        r"^in all: about .+; at most 0.\d GB .+ Measured on 10 passages\.$", shown, re.M
    )
    assert not new.exists()
    said = [record.getMessage() for record in caplog.records]
    assert not any("too few" in each for each in said)  # what is said of a sample holds for no run


def test_a_sample_of_the_documents_is_scaled_to_all(
    line: list[str], tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr("dalm.adaptation.rehearsal.MOST_PASSAGES", 5)
    server = ["--backend", "http", "--model", "m", "--base-url", "http://localhost:1/v1"]
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"retriever": {"num_train_epochs": 16}}))
    words = list(line)
    words[words.index("--backend") : words.index("--backend") + 2] = server
    words[words.index("--stage-options") + 1] = str(options)
    assert run(app, [*words, "--output-dir", str(tmp_path / "new"), "--dry-run"]) == 0
    shown = capfd.readouterr().out
    share = re.search(r"Measured on (\d) passages, (0.\d+) of the documents", shown)
    assert share is not None
    assert int(share[1]) == 5
    assert float(share[2]) == pytest.approx(0.5, abs=0.1)  # by their bytes
    asked = re.search(r"(\d+) requests, [\d,]+ tokens in", shown)
    assert asked is not None
    assert int(asked[1]) == math.ceil(5 / float(share[2]))  # one a passage
    trained = re.search(r"^retriever .+ (\d+) updates", shown, re.M)
    assert trained is not None
    assert 16 < int(trained[1]) < 16 / float(share[2])  # people's questions are all there


def test_a_dry_run_estimates_on_what_is_there_and_changes_nothing(
    line: list[str], system: Path, tmp_path: Path, caplog: Any, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    folder = shutil.copytree(system, tmp_path / "system")
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    words = [*line, "--output-dir", str(folder), "--from", "retriever", "--dry-run"]
    assert run(app, words) == 0
    shown = capfd.readouterr().out
    asked = re.search(r"^evaluate-human .* (\d+) prompts and their answers", shown, re.M)
    assert asked is not None
    assert int(asked[1]) == 2 * 8  # two systems, without bounds, eight questions
    said = [record.getMessage() for record in caplog.records]
    assert "stage      retriever: dalm train-retriever-only --dry-run" in said
    assert sum(each.startswith("memory ") for each in said) == 2  # retriever and generator
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"evaluate-human": {"max_new_tokens": 4}}))
    words[words.index("--stage-options") + 1] = str(file)
    assert run(app, words) == 0
    asked = re.search(r"^evaluate-human .* (\d+) prompts ", capfd.readouterr().out, re.M)
    assert asked is not None
    assert int(asked[1]) == 2 * 4 * 8  # with a gold, a random and no passage


def replaced(line: list[str], **changed: object) -> list[str]:
    """Return the command with other values of its options."""
    words = list(line)
    for name, value in changed.items():
        words[words.index(f"--{name.replace('_', '-')}") + 1] = str(value)
    return words


def takes(shown: str, stage: str) -> str:
    """Return what a dry run says that a stage takes, without the time."""
    found = re.search(rf"^{stage} .*?(?:about \d+ (?:s|min): )?(\S+ [a-z].*?) *$", shown, re.M)
    assert found is not None
    return found[1].rpartition(": ")[2]


def test_questions_of_people_are_not_scaled_with_the_documents(
    line: list[str], tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    words = [*line, "--output-dir", str(tmp_path / "new"), "--dry-run"]
    assert run(app, words) == 0
    on_all = capfd.readouterr().out
    monkeypatch.setattr("dalm.adaptation.rehearsal.MOST_PASSAGES", 3)
    assert run(app, words) == 0
    on_few = capfd.readouterr().out
    assert "Measured on 3 passages, 0." in on_few
    for stage in ("retriever", "generator"):
        assert takes(on_few, stage) == takes(on_all, stage)
    assert "held out" not in takes(on_few, "evaluate-human")


def test_what_was_made_before_changes_is_not_measured(
    line: list[str], system: Path, documents: Path, tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    more = shutil.copytree(documents, tmp_path / "documents")
    for place in range(10):
        (more / f"new{place}.md").write_text(f"# New {place}\n\nNobody lives at number {place}.\n")
    words = [line[0], str(more), *line[2:], "--output-dir", str(system), "--dry-run"]
    assert run(app, words) == 0
    assert "Measured on 20 passages." in capfd.readouterr().out
    rows = documents.parent.joinpath("real.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join(rows[:7]) + "\n")  # of three documents
    words = [*replaced(line, questions=tmp_path / "few.csv"), "--output-dir", str(system)]
    assert run(app, [*words, "--dry-run"]) == 0
    assert takes(capfd.readouterr().out, "evaluate-human").startswith("4 prompts")


def test_questions_that_are_there_are_measured(
    line: list[str], tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr("dalm.adaptation.rehearsal.MOST_PASSAGES", 5)
    words = [*replaced(line, backend="extractive"), "--output-dir", str(tmp_path / "half")]
    assert run(app, [*words, "--to", "questions"]) == 0
    capfd.readouterr()
    assert run(app, [*words, "--dry-run"]) == 0
    assert "Measured on 10 passages." in capfd.readouterr().out


def test_a_reranker_takes_time(line: list[str], tiny_models: Any, tmp_path: Path, capfd: Any,
                               monkeypatch: Any) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr("dalm.adaptation.estimates._Measuring._per_pair", 6.0)
    words = [*line, "--reranker", str(tiny_models.reranker)]
    assert run(app, [*words, "--output-dir", str(tmp_path / "new"), "--dry-run"]) == 0
    said = re.search(r"^evaluate-human .* about (\d+) min", capfd.readouterr().out, re.M)
    assert said is not None
    assert int(said[1]) in (16, 17)  # two systems, eight questions, ten passages of 6 s


def test_documents_without_a_passage_are_named(line: list[str], tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "short"
    folder.mkdir()
    (folder / "a.md").write_text("hi")
    words = [line[0], str(folder), *line[2:], "--output-dir", str(tmp_path / "new")]
    for more in (["--dry-run"], []):
        assert run(app, [*words, *more]) == 2
        assert f"the documents in {folder} give no passage" in capfd.readouterr().err


def test_only_passages_need_no_questions(line: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dalm.adaptation.rehearsal._prepare_questions", None)
    words = [*line, "--output-dir", str(tmp_path / "new"), "--dry-run"]
    assert run(app, [*words, "--to", "passages"]) == 0


def test_without_a_temporary_folder_the_remedy_is_named(
    line: list[str], tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        assert run(app, [*line, "--output-dir", str(tmp_path / "new"), "--dry-run"]) == 2
    assert "set TMPDIR" in capfd.readouterr().err


def test_no_temporary_file_is_named_that_is_gone(
    line: list[str], tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    def refuse(_system: Any, rehearsed: Any, _there: Any) -> None:
        raise UserError(f"{rehearsed.folder / 'questions' / 'rejections.jsonl'} says why")

    monkeypatch.setattr("dalm.adaptation.rehearsal._prepare_questions", refuse)
    new = tmp_path / "new"
    assert run(app, [*line, "--output-dir", str(new), "--dry-run"]) == 2
    said = capfd.readouterr().err
    assert f"{new}/questions/rejections.jsonl says why (that file isn't kept" in said
