"""`dalm demo`: its tables are in the package, and it goes from models to printed answers."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.commands import demo
from dalm.retrieval.index_folder import IndexFolder


def test_the_toy_tables_are_in_the_package() -> None:
    for table in (demo.TRAIN, demo.TEST):
        assert table.read_text().startswith("Title,Passage,Query,Answer\n")


def test_a_pair_is_tuned_evaluated_and_asked_from_an_index(
    tiny_models: Any,
    tiny_table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "TRAIN", tiny_table)
    monkeypatch.setattr(demo, "TEST", tiny_table)
    folder = tmp_path / "a demo"
    line = ["demo", "--output-dir", folder, "--retriever", tiny_models.encoder]
    line += ["--generator", tiny_models.generator]
    assert run(app, [str(word) for word in line]) == 0
    printed = capfd.readouterr()
    assert "20 questions on 10 held-out passages" in printed.out
    for measure in demo.MEASURES:
        assert measure in printed.out
    answers = re.findall(r"\nanswer    .* {3}\((right|wrong: .*)\)\n\[1\]       .+", printed.out)
    assert printed.out.count("\nquestion  ") == len(answers) == 3
    assert not re.search(r"\d%\||it/s", printed.err)

    # The last line is a command that works: its index is of the tuned retriever.
    *command, option, generator = shlex.split(printed.out.splitlines()[-1])
    assert (command, option) == (["dalm", "serve", f"{folder}/index"], "--generator-name-or-path")
    asked = ["ask", command[-1], "Who?", option, generator]
    assert run(app, asked) == 0
    assert "\n[1] " in capfd.readouterr().out
    tuned = IndexFolder(command[-1]).current().description.retriever
    assert tuned == str((folder / "run" / "retriever").absolute())
