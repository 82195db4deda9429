"""Two processes at once on one output: the second is refused, or writes a folder of its own.

The first one is then stopped by a signal: it says so, and leaves nothing unfinished behind.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from dalm import stop_signals
from dalm.cli import app, run
from dalm.eval.results import load
from tests.forked import Forked, waiting_at

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CPU = ["--device", "cpu", "--precision", "fp32"]
SEARCH = ["--retriever-name-or-path", "{encoder}", *CPU, "--no-cache"]
READ = ["--generator-name-or-path", "{generator}"]
MATCH = ["--passages", "{table}", "--teacher", "answer-match"]
COMMANDS: dict[str, tuple[list[str], str, str]] = {
    "passages": (
        ["passages", "{table}", "--output", "out.jsonl"],
        "dalm.ingest.passage_writer.PassageWriter.add",
        "--output out.jsonl",
    ),
    "qa-gen": (
        ["qa-gen", "{table}", "--output-dir", "out"],
        "dalm.synth.selection.select",
        "--output-dir out",
    ),
    "reading-comprehension": (
        ["reading-comprehension", "{table}", "--output", "out.jsonl"],
        "dalm.synth.exercise_texts.ExerciseWriter.write",
        "--output out.jsonl",
    ),
    "mine-negatives": (
        ["mine-negatives", "{table}", "--output", "out.csv", *SEARCH],
        "dalm.retrieval.negatives.mine_hard_negatives",
        "--output out.csv",
    ),
    "score-candidates": (
        ["score-candidates", "{table}", "--output", "out.jsonl", *MATCH],
        "dalm.teachers.labels.score_in_turn",
        "--output out.jsonl",
    ),
    "train-retriever-only": (
        ["train-retriever-only", "{encoder}", "{table}", "--output-dir", "out", *CPU],
        "dalm.training.trainer.ObjectiveTrainer.compute_loss",
        "--output-dir out",
    ),
    "train-generator-only": (
        ["train-generator-only", "{table}", "{generator}", "--output-dir", "out", *CPU],
        "dalm.training.trainer.ObjectiveTrainer.compute_loss",
        "--output-dir out",
    ),
    "train-rag-e2e": (
        ["train-rag-e2e", "{table}", "{encoder}", "{generator}", "--output-dir", "out", *CPU],
        "dalm.training.trainer.ObjectiveTrainer.compute_loss",
        "--output-dir out",
    ),
    "train-reranker": (
        ["train-reranker", "{reranker}", "{mined}", "--output-dir", "out", *CPU],
        "dalm.training.trainer.ObjectiveTrainer.compute_loss",
        "--output-dir out",
    ),
    "pretrain": (
        ["pretrain", "{table}", "{generator}", "--output-dir", "out", "--sequence-length", "64"],
        "dalm.training.trainer.ObjectiveTrainer.compute_loss",
        "--output-dir out",
    ),
    "merge": (
        ["merge", "{tuned}", "--base", "{encoder}", "--weight", "0.5", "--output-dir", "out"],
        "dalm.models.model_merging.write_model",
        "--output-dir out",
    ),
    "export": (
        ["export", "{tuned}", "--output-dir", "out"],
        "dalm.models.model_merging.write_model",
        "--output-dir out",
    ),
    "eval-retriever": (
        ["eval-retriever", "{table}", "--output-dir", "out", *SEARCH],
        "dalm.eval.retrieval_evaluation.RetrievalEvaluation.evaluate",
        "--output-dir out",
    ),
    "eval-retriever-report": (
        ["eval-retriever", "{table}", "--report", "out.html", *SEARCH],
        "dalm.eval.retrieval_evaluation.RetrievalEvaluation.evaluate",
        "--report out.html",
    ),
    "eval-rag": (
        ["eval-rag", "{table}", "--output-dir", "out", "--evaluate-generator", *SEARCH, *READ],
        "dalm.eval.answer_evaluation._answers",
        "--output-dir out",
    ),
    "score-candidates-cache": (
        ["score-candidates", "{table}", "--output", "out.jsonl", *MATCH[:3], "generator", *READ],
        "dalm.teachers.answer_likelihood.AnswerLikelihood.score_pairs",
        "--output out.jsonl",
    ),
    "index": (
        ["index", "{table}", "--index-dir", "out", "--retriever-name-or-path", "{encoder}"],
        "dalm.retrieval.indexing.update",
        "--index-dir out",
    ),
    "demo": (
        ["demo", "--output-dir", "out"],
        "dalm.models.tiny.build_encoder",
        "--output-dir out",
    ),
}
"""A command's line, what of it to stop the first process in, and the output that is named."""


@pytest.fixture
def paths(
    tiny_models: Any,
    tiny_table: Path,
    tiny_rows: list[dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The inputs by name; the working directory is an empty one."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    tuned = shutil.copytree(tiny_models.encoder, tmp_path / "tuned")
    weights = load_file(tuned / "model.safetensors")
    save_file({name: weight * 1.1 for name, weight in weights.items()}, tuned / "model.safetensors")
    named = {"table": tiny_table, "tuned": tuned}
    named |= {"encoder": tiny_models.encoder, "generator": tiny_models.generator}
    mined = tmp_path / "mined.jsonl"
    others = [row["Passage"] for row in tiny_rows[2:] + tiny_rows[:2]]
    lines = (row | {"Negatives": [each]} for row, each in zip(tiny_rows, others, strict=True))
    mined.write_text("".join(json.dumps(line) + "\n" for line in lines))
    named |= {"reranker": tiny_models.reranker, "mined": mined}
    return {name: str(path) for name, path in named.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_process_is_refused_in_one_line_and_the_first_stops_cleanly(
    name: str, paths: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line, place, named = COMMANDS[name]
    arguments = [part.format(**paths) for part in line]

    def first() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stop_signals.listen()
        waiting_at(place, tmp_path / "writing")
        return run(app, arguments)

    process = Forked(first, tmp_path / "log.txt")
    process.wait_for(tmp_path / "writing")
    capfd.readouterr()
    assert run(app, arguments) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith(f"dalm: {named}: another process is writing there; wait for it to end")
    process.send(signal.SIGTERM)
    assert process.end() == 143
    assert process.text().splitlines()[-1].startswith("dalm: stopped")
    unfinished = [path for path in Path().rglob(".*") if path.name not in (".gitignore",)]
    assert [*unfinished, *Path().rglob("*.part")] == []


def test_numbered_folders_of_processes_at_once_are_two_whole_runs(
    paths: dict[str, str], tmp_path: Path
) -> None:
    line = [part.format(**paths) for part in ("eval-retriever", "{table}", *SEARCH)]
    processes = [
        Forked(lambda k=k: run(app, [*line, "--top-k", str(k)]), tmp_path / f"{k}.txt")  # type: ignore[misc]
        for k in (3, 7)
    ]
    assert [process.end() for process in processes] == [0, 0]
    folders = sorted(Path().glob("evaluation-*"))
    assert [folder.name for folder in folders] == ["evaluation-1", "evaluation-2"]
    assert {len(load(folder).hits[0]) for folder in folders} == {3, 7}
    assert sys.platform == "win32" or not list(Path().rglob("*.lock"))
