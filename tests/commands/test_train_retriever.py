"""Training a retriever on a table of scored candidates, from the command line to the files."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dalm.cli import app, run
from dalm.io.scored_tables import write_scored
from dalm.records import Passage, ScoredCandidate, ScoredQuestion
from dalm.training import metrics_log

SHARED = "--device cpu --precision fp32 --batch-size 4 --learning-rate 1e-2 --logging-steps 1"
NAMES = ("listwise", "margin_mse")


def scored(row: dict[str, str], others: Iterator[str], *, labelled: bool) -> ScoredQuestion:
    """Return a question whose own passage scores 1; one without a label is ruled out of nothing."""
    passages = [Passage.of(text) for text in (row["Passage"], *others)]
    candidates = [ScoredCandidate(passages[0], 1.0)]
    candidates += [ScoredCandidate(p, 0.5 - n / 10) for n, p in enumerate(passages[1:])]
    candidates += [ScoredCandidate(Passage.of(f"No {row['Answer']}."), None)]
    positive = (passages[0], tuple(passages[2:])) if labelled else (None, ())
    return ScoredQuestion(row["Query"], row["Answer"], tuple(candidates), *positive)


@pytest.fixture(scope="module")
def table(tiny_rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty questions with five candidates each, of which one has no score; half are labelled."""
    texts = list(dict.fromkeys(row["Passage"] for row in tiny_rows))
    questions = []
    for n, row in enumerate(tiny_rows):
        others = [text for text in texts[n % 6 :] if text != row["Passage"]][:3]
        questions.append(scored(row, iter(others), labelled=n % 2 == 0))
    nothing = ScoredCandidate(Passage.of(texts[0]), 0.0)
    questions.append(ScoredQuestion("Nothing?", "no", (nothing,)))
    file = tmp_path_factory.mktemp("scored") / "scored.jsonl"
    write_scored(file, questions, "a rule")
    return file


@pytest.fixture
def train(
    tiny_models: Any, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., int]:
    """Train in this process; the run's folder is `run`."""
    caplog.set_level("INFO")

    def call(*options: object) -> int:
        line = ["train-retriever-only", tiny_models.encoder, table, *SHARED.split()]
        line += ["--output-dir", tmp_path / "run", *options]
        return run(app, [str(word) for word in line])

    return call


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def said(caplog: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [line for line in caplog.messages if line.startswith(start)]


@pytest.mark.parametrize("name", NAMES)
def test_training_on_scores(
    train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    options = ["--num-candidates", 4, "--epochs", 6, "--contrastive-weight", 0.5]
    assert train("--objective", name, *options) == 0
    assert "1 of 21 questions left out" in caplog.text
    assert said(caplog, "teacher ") == ["teacher    names a positive for 10 of 20 questions"]
    each = 5 if name == "listwise" else 4
    assert said(caplog, "data ") == [
        f"data       20 questions, {each} scored candidates each, up to 4 of them in a batch; "
        "25 distinct passages"
    ]
    assert len(said(caplog, "target ")) == (name == "listwise")
    assert len(said(caplog, "margins ")) == (name == "margin_mse")
    lines = metrics(tmp_path / "run")
    parts = {"loss", name, "info_nce", "in_batch_accuracy", "agreement"}
    assert all(parts <= set(line) for line in lines)
    assert {"target_passages", "prior_passages"} <= set(lines[0]) or name == "margin_mse"
    whole = lines[0][name] + 0.5 * lines[0]["info_nce"]
    assert lines[0]["loss"] == pytest.approx(whole, rel=1e-4)
    first, last = (sum(line["loss"] for line in part) for part in (lines[:5], lines[-5:]))
    assert last < 0.8 * first
    assert said(caplog, "next ") == ["next       dalm eval-retriever --help"]
    card = (tmp_path / "run" / "retriever" / "README.md").read_text()
    assert "20 questions" in card


def test_the_plain_command_takes_the_teachers_positives(
    train: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert train("--max-train-steps", 1) == 0
    assert said(caplog, "teacher ") == ["teacher    names a positive for 10 of 21 questions"]
    assert said(caplog, "negatives ") == ["negatives  20 for 10 of 10 questions (Negatives)"]


def test_a_dry_run_shows_the_candidates_with_their_scores(
    train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train("--objective", "listwise", "--dry-run") == 0
    shown = [line.split(",")[0].removeprefix("row        ") for line in said(caplog, "row ")]
    scores = ["score 1", "score 0.5", "score 0.4", "score 0.3", "no score"]
    assert shown == ["query", *(f"candidate with {score}" for score in scores)]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_where_an_unbroken_one_ends(
    train: Any, tmp_path: Path, name: str
) -> None:
    """To the bit: the same candidates are drawn in the epoch that was broken off."""
    options = ["--objective", name, "--num-candidates", 3, "--checkpointing-steps", 7]
    options += ["--max-train-steps", 10, "--contrastive-weight", 0.5]
    assert train(*options) == 0
    whole = shutil.copytree(tmp_path / "run", tmp_path / "whole")
    for left in ("checkpoint-10", "retriever"):
        shutil.rmtree(tmp_path / "run" / left)  # what is left is of the middle of epoch 2
    assert train(*options, "--resume-from-checkpoint", "latest") == 0
    assert (tmp_path / "run" / "checkpoint-10").is_dir()
    expected = load_file(whole / "retriever" / "model.safetensors")
    found = load_file(tmp_path / "run" / "retriever" / "model.safetensors")
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    same = [name for name in metrics(whole)[0] if name not in metrics_log.CLOCK]
    for one, other in zip(metrics(whole), metrics(tmp_path / "run"), strict=True):
        assert [one[key] for key in same] == [other[key] for key in same]


def test_a_resumed_run_may_have_another_temperature_but_no_other_table(
    train: Any, table: Path, caplog: Any, capsys: Any
) -> None:
    options = ("--objective", "listwise", "--max-train-steps", 2)
    assert train(*options, "--checkpointing-steps", 1) == 0
    resumed = (*options[:3], 3, "--resume-from-checkpoint", "latest", "--checkpointing-steps", 1)
    changed = ("--target-temperature", 0.5, "--contrastive-weight", 0)
    assert train(*resumed, *changed) == 0
    assert "--target-temperature 0.5 (auto before)" in caplog.text
    before = table.read_text()
    try:
        table.write_text(before.replace('"Temperature": null', '"Temperature": 0.25'))
        assert train(*options[:3], 4, *resumed[4:], *changed) == 2
    finally:
        table.write_text(before)
    assert "was written with other data (named_temperatures)" in capsys.readouterr().err


def test_options_without_effect_are_refused(train: Any, capsys: Any) -> None:
    refused = {
        "--logit-scale 20 --contrastive-weight 0": "it is of the contrastive loss, whose weight is",
        "--negatives-column Wrong": "a table of scored candidates has fixed columns",
        "--margin-scale 2": "has no effect without --objective margin_mse",
    }
    for options, reason in refused.items():
        assert train("--objective", "listwise", *options.split()) == 2
        assert reason in capsys.readouterr().err
    for options in ("--num-candidates 4", "--target-temperature 1", "--contrastive-weight 2"):
        assert train(*options.split()) == 2
        assert "has no effect without --objective listwise" in capsys.readouterr().err


def test_a_table_without_scores_is_refused(
    tiny_models: Any, tiny_table: Path, tmp_path: Path, capsys: Any
) -> None:
    line = ["train-retriever-only", str(tiny_models.encoder), str(tiny_table)]
    line += ["--output-dir", str(tmp_path / "run"), "--objective", "listwise"]
    assert run(app, line) == 2
    assert "tiny.csv has no column 'Candidates' of scored candidates" in capsys.readouterr().err
