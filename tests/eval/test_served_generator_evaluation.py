"""`dalm eval-rag` with a generator on a server: the same prompts, everything measured but NLL."""

import json

import pytest

from dalm.cli import app, run
from dalm.eval.results import load
from dalm.prompts import PromptTemplate
from tests.llm.stub_server import serving

SERVED = ("--generator-url", "http://localhost:1/v1", "--generator-model", "m")


@pytest.fixture
def stub():
    with serving() as served:
        yield served


@pytest.fixture
def command(tiny_table, tiny_models, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*more):
        line = ["eval-rag", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
        code = run(app, [str(each) for each in [*line, "--evaluate-generator", *more]])
        return code, capsys.readouterr().err

    return call


def test_answers_of_a_server_are_measured(command, stub, tiny_rows, tmp_path):
    gold = {row["Query"]: row["Answer"] for row in tiny_rows}

    def answer(asked):
        return gold[asked.rpartition("Question:\n")[2]]

    stub.write = answer
    out = tmp_path / "out"
    served = ["--generator-url", stub.url, "--generator-model", "m", "--output-dir", out]
    assert command(*served, "--reader-passages", 2)[0] == 0
    results = json.loads((out / "results.json").read_text("utf-8"))
    means = {each["measure"]: each["mean"] for each in results["measures"]}
    assert means["EM"] == means["EM[none]"] == 1.0
    assert not [name for name in means if name.startswith("NLL")]
    found = load(out)
    passages = [[hit.passage.text for hit in hits[:2]] for hits in found.hits]
    wanted = {
        PromptTemplate().user_message(query.query, texts)
        for query, texts in zip(found.queries, passages, strict=True)
    }
    assert wanted <= set(stub.prompts())
    assert found.name.endswith(f"m ({stub.url})")

    asked = len(stub.bodies)
    assert command(*served, "--reader-passages", 2, "--overwrite-output-dir")[0] == 0
    assert len(stub.bodies) == asked, "every reply was kept"


def test_a_prompt_file_and_citations_reach_the_server(command, stub, tmp_path):
    (tmp_path / "prompt.yaml").write_text(
        "instruction: Be brief.\npassage: ' P {passage}'\nquestion: ' Q {question}'\nanswer: ' A'\n"
        "citations: Cite.\n"
    )
    served = ["--generator-url", stub.url, "--generator-model", "m", "--output-dir", "out"]
    assert command(*served, "--prompt", "prompt.yaml", "--citations", "--no-bounds")[0] == 0
    assert all(prompt.startswith("Cite. P [1] ") for prompt in stub.prompts())
    results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert results["facts"]["citations"] is True


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--generator-name-or-path, or --generator-url"),
        (SERVED[:2], "--generator-model"),
        (
            [*SERVED, "--generator-name-or-path", "there"],
            "two generators",
        ),
        (
            [*SERVED, "--generator-max-len", "64"],
            "--generator-max-len has no effect with --generator-url",
        ),
        (["--generator-name-or-path", "g", "--prompt", "none.yaml"], "--prompt: none.yaml"),
    ],
)
def test_what_can_not_work_is_refused_in_one_line(command, options, named):
    code, printed = command(*options)
    assert code == 2
    assert named in printed
    assert len(printed.strip().splitlines()) == 1
