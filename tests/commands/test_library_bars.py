"""The bars that libraries draw for loading and saving are in no command's log."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import AutoModel
from transformers.utils import logging

from dalm.cli import app, run

termios = pytest.importorskip("termios")

BAR = re.compile(r"([^\r\n:]+): +\d+%\|[^|]*\| *[\d.,kMG]+/[\d.,kMG]+ \[")
"""A library's bar; this package's own name what they count after the numbers."""
LINES = {
    "train": "train-rag-e2e {saved} {encoder} {generator} --output-dir out --max-train-steps 1 "
    "--use-peft both",
    "merge": "merge out/generator --output-dir merged",
    "export": "export out --output-dir exported",
    "index": "index {table} --retriever-name-or-path out/retriever --index-dir index",
    "ask": "ask index Who? --generator-name-or-path out/generator --max-new-tokens 2",
    "eval-rag": "eval-rag {saved} --retriever-name-or-path out/retriever --evaluate-generator "
    "--generator-name-or-path merged --max-new-tokens 2",
    "qa-gen": "qa-gen {table} --backend extractive --output-dir questions",
}


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make stderr a terminal, and collect what is written there until the block ends."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    shown: list[str] = []

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while piece := os.read(master, 4096):
                shown.append(piece.decode(errors="replace"))

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w") as stderr, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        yield shown
    reader.join()
    os.close(master)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT reads it
def test_no_command_shows_a_library_s_bar(
    tiny_models: Any, tiny_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = datasets.Dataset.from_csv(str(tiny_table))
    rows.save_to_disk("saved", num_shards=17)  # its loading has a bar from 17 files on
    with terminal(monkeypatch) as shown:
        datasets.load_from_disk("saved")
        AutoModel.from_pretrained(tiny_models.encoder)
    bars = {found[1] for found in BAR.finditer("".join(shown))}
    assert bars == {"Loading weights", "Loading dataset from disk"}
    places = {
        "saved": "saved",
        "table": str(tiny_table),
        "encoder": str(tiny_models.encoder),
        "generator": str(tiny_models.generator),
    }
    for name, line in LINES.items():
        with terminal(monkeypatch) as shown:
            assert run(app, [word.format(**places) for word in line.split()]) == 0, name
        assert not BAR.search("".join(shown)), (name, shown)
    assert logging.is_progress_bar_enabled()
    assert datasets.is_progress_bar_enabled()
