"""Training commands refuse their data before torch is imported."""

import subprocess
import sys

import pytest

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
}
MODEL_FIRST = ("train-retriever-only", "train-reranker")


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
    table = tmp_path / "no.csv"
    if text is not None:
        table.write_text(text)
    models = COMMANDS[command]
    given = [str(table), *models] if command not in MODEL_FIRST else [*models, str(table)]
    line = [sys.executable, "-c", RUN, command, *given, "--output-dir", str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("dalm: ")
