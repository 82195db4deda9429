"""Training commands refuse their data before torch is imported."""

import subprocess
import sys

import pytest

from dalm.commands.train_retriever import CONTRASTIVE, FROM_SCORES
from dalm.training.objectives.objective import objective_class

RUN = """
import sys
from dalm import cli
code = cli.run(cli.app, sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported before the data were refused"
sys.exit(code)
"""
COMMANDS = {
    "train-retriever-only": ["r"],
    "train-rag-e2e": ["r", "g"],
    "train-generator-only": ["g"],
    "train-reranker": ["r"],
    "pretrain": ["g"],
}
MODEL_FIRST = ("train-retriever-only", "train-reranker")
CANDIDATES = '[{"id": "1", "text": "a", "score": 1}, {"id": "2", "text": "b", "score": %s}]'
SCORED = f'{{"Query": "q", "Candidates": {CANDIDATES}}}\n'


def refused(tmp_path, command, text, *options, name="no.csv"):
    """Run a command on a table that it refuses, and return what it says."""
    table = tmp_path / name
    if text is not None:
        table.write_text(text)
    models = COMMANDS[command]
    given = [str(table), *models] if command not in MODEL_FIRST else [*models, str(table)]
    line = [sys.executable, "-c", RUN, command, *given, "--output-dir", str(tmp_path / "out")]
    done = subprocess.run([*line, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    *_, said = done.stderr.splitlines()
    assert said.startswith("dalm: ")
    return said


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no.csv"),
        ("A,B,C\na,b,c\n", "no.csv"),
        ('Query,Passage,Answer\n"a,b,c\n', "line 2"),
    ],
    ids=["path", "column", "row"],
)
def test_wrong_data_are_refused_before_torch_is_imported(command, text, said, tmp_path):
    assert said in refused(tmp_path, command, text)


@pytest.mark.parametrize("objective", FROM_SCORES)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Query": "q", "Passage": "a"}\n', "has no column 'Candidates'"),
        ("", "no.jsonl is empty"),
        (SCORED % '"half"', "line 1: no question with scored candidates (score"),
        (SCORED % 1, "no question has two candidates with different scores"),
    ],
    ids=["column", "rows", "score", "equal scores"],
)
def test_wrong_scores_are_refused_before_torch_is_imported(objective, text, said, tmp_path):
    options = "--objective", objective
    assert said in refused(tmp_path, "train-retriever-only", text, *options, name="no.jsonl")


def test_what_is_read_before_torch_is_what_the_objectives_need():
    for name, margins in FROM_SCORES.items():
        needs = objective_class(name, "train-retriever-only").needs
        assert "scores" in needs
        assert ("margins" in needs) == margins
    assert "scores" not in objective_class(CONTRASTIVE, "train-retriever-only").needs
