"""`dalm demo`: its tables are in the package, and it goes from models to printed answers."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.commands import demo


def test_the_toy_tables_are_in_the_package() -> None:
    for table in (demo.TRAIN, demo.TEST):
        assert table.read_text().startswith("Title,Passage,Query,Answer\n")


def test_a_pair_is_adapted_judged_and_asked_from_an_index(
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
    assert "questions on documents that were held out: the index finds the passage" in printed.out
    assert len(list((folder / "documents").glob("*.md"))) == 10
    answers = re.findall(r"\nanswer    .* {3}\((right|wrong: .*)\)\n\[1\]       .+", printed.out)
    assert printed.out.count("\nquestion  ") == len(answers) > 0
    assert not re.search(r"\d%\||it/s", printed.err)

    # The last line is a command that works: its index and its generator are there.
    words = shlex.split(printed.out.splitlines()[-1])
    assert words[:3] == ["dalm", "serve", f"{folder}/system/index"]
    assert words[-3:] == ["--feedback", "--documents", f"{folder}/documents"]
    assert run(app, ["ask", words[2], "Who?", *words[3:5]]) == 0
    assert "\n[1] " in capfd.readouterr().out
    assert (folder / "system" / "verdict.html").is_file()
