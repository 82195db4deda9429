"""A system of ten documents with people's questions, adapted once."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from tests.conftest import NAMES

FAST = {
    "retriever": {"num_train_epochs": 1},
    "generator": {"max_train_steps": 2},
    "evaluate-human": {"max_new_tokens": 4, "bounds": False},
}


@pytest.fixture(scope="session")
def documents(tiny_rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Markdown file for each person."""
    folder = tmp_path_factory.mktemp("adapted") / "documents"
    folder.mkdir()
    for name, row in zip(NAMES, tiny_rows[::2], strict=True):
        (folder / f"{name}.md").write_text(f"# {name}\n\n{row['Passage']}\n")
    return folder


@pytest.fixture(scope="session")
def asked(tiny_rows: list[dict[str, str]], documents: Path) -> Path:
    """People's questions with their passages, as they were before the documents were split."""
    file = documents.parent / "real.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["Query", "Answer", "Passage"])
        writer.writeheader()
        writer.writerows(tiny_rows)
    return file


@pytest.fixture(scope="session")
def line(documents: Path, asked: Path, tiny_models: Any) -> list[str]:
    """The command without its output folder."""
    options = documents.parent / "stages.json"
    options.write_text(json.dumps(FAST))
    words = ["adapt", documents, "--retriever-name-or-path", tiny_models.encoder]
    words += ["--generator-name-or-path", tiny_models.generator, "--backend", "none"]
    words += ["--questions", asked, "--stage-options", options, "--device", "cpu"]
    return [str(word) for word in words]


@pytest.fixture(scope="session")
def system(line: list[str], documents: Path) -> Path:
    """The folder of the adapted system; read only."""
    folder = documents.parent / "system"
    assert run(app, [*line, "--output-dir", str(folder)]) == 0
    return folder
