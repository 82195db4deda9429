"""`dalm demo`: its tables are in the package, and it goes from models to printed answers."""

from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.commands import demo


def test_the_toy_tables_are_in_the_package() -> None:
    for table in (demo.TRAIN, demo.TEST):
        assert table.read_text().startswith("Title,Passage,Query,Answer\n")


def test_a_pair_is_tuned_evaluated_and_asked(
    tiny_models: Any,
    tiny_table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "TRAIN", tiny_table)
    monkeypatch.setattr(demo, "TEST", tiny_table)
    line = ["demo", "--output-dir", tmp_path / "demo", "--retriever", tiny_models.encoder]
    line += ["--generator", tiny_models.generator]
    assert run(app, [str(word) for word in line]) == 0
    printed = capsys.readouterr().out
    assert "20 questions on 10 held-out passages" in printed
    for measure in demo.MEASURES:
        assert measure in printed
    assert printed.count("\nquestion  ") == printed.count("\nanswer    ") == 3
    assert f"dalm eval-rag {tiny_table} --retriever-name-or-path {tmp_path}/demo/run/retriever" in (
        printed
    )
