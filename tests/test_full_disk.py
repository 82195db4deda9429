"""A disk that fills up: one line, exit code 2, nothing unfinished stays, and runs go on later.

A limit on the size of files shows as a full disk does, in Python and in the libraries below it.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from dalm.cli import app, run
from dalm.errors import UserError
from dalm.llm.language_model import Reply
from dalm.llm.response_cache import Journal
from dalm.training import checkpoints, metrics_log
from dalm.training.run_folder import RunFolder
from dalm.training.trainer import ObjectiveTrainer

Limit = Callable[[int], AbstractContextManager[None]]
CPU = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return the last line of stderr, which has to name the disk, without a traceback."""

    def last() -> str:
        text = capsys.readouterr().err
        assert "Traceback" not in text
        line = text.splitlines()[-1]
        assert line.startswith("dalm: ")
        assert "can't be written: " in line
        return line

    return last


def left(folder: Path) -> list[str]:
    """Return what is unfinished in a folder, at any depth."""
    whole = (".gitignore", ".metadata")  # the second is of torch.distributed.checkpoint
    hidden = [path for path in folder.rglob(".*") if path.name not in whole]
    return [str(path.relative_to(folder)) for path in (*hidden, *folder.rglob("*.part"))]


# Training


@pytest.fixture(scope="module")
def trained(
    tiny_models: Any, tiny_table: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path]:
    """A line that trains, and the folder of a run that nothing disturbed."""
    line = ["train-retriever-only", str(tiny_models.encoder), str(tiny_table), *CPU]
    line += "--batch-size 5 --epochs 2 --checkpointing-steps 2 --logging-steps 1".split()
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run(app, [*line, "--output-dir", str(folder)]) == 0
    return line, folder


def limited(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, limit: AbstractContextManager[None]
) -> None:
    """Let files grow no further in a function's third call."""
    function, calls = getattr(owner, name), iter(range(100))

    def called(*given: Any, **named: Any) -> Any:
        if next(calls) != 2:
            return function(*given, **named)
        with limit:
            return function(*given, **named)

    monkeypatch.setattr(owner, name, called)


@pytest.mark.parametrize(
    ("owner", "name", "size", "newest"),
    [
        (ObjectiveTrainer, "_save_checkpoint", 60_000, 4),  # in torch.save, of the optimizer
        (metrics_log, "append", 500, 2),  # in the middle of a line
    ],
)
def test_training_keeps_the_checkpoint_before_and_goes_on_from_it(
    trained: tuple[list[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_size_limit: Limit,
    said: Callable[[], str],
    owner: Any,
    name: str,
    size: int,
    newest: int,
) -> None:
    line, whole = trained
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        limited(patched, owner, name, file_size_limit(size))
        assert run(app, [*line, "--output-dir", str(folder)]) == 2
    assert f"{folder}/checkpoint-{newest} is the last checkpoint: run the same" in said()
    assert not left(folder)
    assert all(json.loads(each) for each in (folder / "metrics.jsonl").read_text().splitlines())
    assert checkpoints.find("latest", folder) == folder / f"checkpoint-{newest}"
    resumed = ["--output-dir", str(folder), "--resume-from-checkpoint", "latest"]
    assert run(app, [*line, *resumed]) == 0
    ours, theirs = (each / "retriever" / "model.safetensors" for each in (folder, whole))
    assert ours.read_bytes() == theirs.read_bytes()


def test_an_export_that_fails_leaves_the_checkpoints(
    trained: tuple[list[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_size_limit: Limit,
    said: Callable[[], str],
) -> None:
    line, _ = trained
    export = RunFolder.export

    def limited_export(*given: Any) -> None:
        with file_size_limit(20_000):
            export(*given)

    monkeypatch.setattr(RunFolder, "export", limited_export)
    assert run(app, [*line, "--output-dir", str(tmp_path / "run")]) == 2
    assert "checkpoint-8 is the last checkpoint" in said()
    assert not left(tmp_path)
    assert not (tmp_path / "run" / "retriever").exists()


# The other commands


def test_passages(tmp_path: Path, file_size_limit: Limit, said: Callable[[], str]) -> None:
    rows = ({"text": f"Row {n} has a number, {n * n}, and this end."} for n in range(500))
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["passages", str(tmp_path / "docs.jsonl"), "--output", str(tmp_path / "out" / "p.jsonl")]
    with file_size_limit(8_192):
        assert run(app, line) == 2
    assert "p.jsonl can't be written: File too large; free some space" in said()
    assert not list((tmp_path / "out").iterdir())


def test_evaluation_and_its_cache(
    tiny_models: Any, tiny_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    file_size_limit: Limit, said: Callable[[], str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = ["eval-retriever", str(tiny_table), *CPU, "--cache-dir", str(tmp_path / "cache")]
    line += ["--retriever-name-or-path", str(tiny_models.encoder), "--report", "r.html"]
    with file_size_limit(400):
        assert run(app, line) == 2
    assert "queries.jsonl can't be written: File too large; free some space" in said()
    assert any("vectors are not cached" in message for message in caplog.messages)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run(app, line) == 0
    report, results = Path("r.html").read_bytes(), Path("evaluation-1").iterdir()
    largest = max(path.stat().st_size for path in results)
    assert len(report) > largest + 2_000
    with file_size_limit(largest + 1_000):
        assert run(app, [*line, "--overwrite-output-dir"]) == 2
    assert "r.html can't be written: File too large; free some space" in said()
    assert not left(tmp_path)
    assert Path("r.html").read_bytes() == report, "the one before stays"
    assert Path("evaluation-2", "manifest.json").is_file()


def test_merge(
    tiny_models: Any, tmp_path: Path, file_size_limit: Limit, said: Callable[[], str]
) -> None:
    tuned = shutil.copytree(tiny_models.encoder, tmp_path / "tuned")
    weights = load_file(tuned / "model.safetensors")
    save_file({name: weight * 1.1 for name, weight in weights.items()}, tuned / "model.safetensors")
    line = ["merge", str(tuned), "--base", str(tiny_models.encoder), "--weight", "0.5"]
    with file_size_limit(20_000):
        assert run(app, [*line, "--output-dir", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'out'} can't be written: File too large; free some space" in said()
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]


def test_export(
    tiny_models: Any, tmp_path: Path, file_size_limit: Limit, said: Callable[[], str]
) -> None:
    line = ["export", str(tiny_models.encoder), "--output-dir", str(tmp_path / "out")]
    with file_size_limit(20_000):
        assert run(app, line) == 2
    assert f"{tmp_path / 'out'} can't be written: File too large; free some space" in said()
    assert not list(tmp_path.iterdir())


class Asked:
    """A request whose reply is kept."""

    messages, response_format, about = (), None, {}

    def __init__(self, key: str) -> None:
        self.key = key


def test_a_journal_of_replies(tmp_path: Path, file_size_limit: Limit) -> None:
    file = tmp_path / "journal.jsonl"
    reply = Reply("a text of some length " * 4, 1, 2, 0.5)

    def fill() -> None:
        with Journal(file) as journal:
            for number in range(100):
                journal.add(Asked(str(number)), reply, "model")  # type: ignore[arg-type]

    with file_size_limit(1_000), pytest.raises(UserError, match="File too large; replies so far"):
        fill()
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) > 3
    assert all(json.loads(line) and line.endswith("\n") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
