"""A training run counts the texts that are cut, and whose answers lie behind the cut."""

import logging

import pytest

from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
from dalm.training.data.sft_rows import SftRows

CPU = place("cpu", "fp32")
HEAD = "Ada lives in the old tower of Ulm."
TAIL = " ".join(["She mends the pumps there."] * 4) + " It was built in 1905."


def examples():
    """Return five questions: two answers in the heads, two in the tails, one in neither."""
    answers = ("Ulm", "Ulm", "built in 1905", "1905", "in another town")
    return [
        Example(f"Question {n}?", answer, Passage.of(f"{n}. {HEAD} {TAIL}"))
        for n, answer in enumerate(answers)
    ]


@pytest.fixture
def retriever(tiny_models):
    return load_retriever(str(tiny_models.encoder), CPU, lengths={"passage": 30})


@pytest.fixture
def generator(tiny_models):
    return load_generator(str(tiny_models.generator), CPU, max_length=120)


def told(caplog, rows) -> list[str]:
    with caplog.at_level(logging.INFO):
        rows.tell_cut()
    return [line for line in caplog.messages if line.startswith("lengths")]


def test_a_retrievers_passages_and_questions(caplog, retriever):
    passages, questions = told(caplog, Rows(examples(), retriever))
    assert "5 of 5 passages are cut at 30 tokens; the answers of 2 questions lie behind" in passages
    assert questions == "lengths    none of 5 questions is cut at 50 tokens"


def test_a_pairs_prompts(caplog, retriever, generator):
    *_, prompts = told(caplog, Rows(examples(), retriever, generator))
    assert "in 5 of 5 prompts passages are cut at 120 tokens (--generator-max-len)" in prompts
    assert "in 2 of them the answer lies behind the cut; --generator-max-len" in prompts


def test_a_generators_prompts(caplog, generator):
    [line] = told(caplog, SftRows(examples(), generator))
    assert "in 5 of 5 prompts passages are cut at 120 tokens" in line
    assert "in 2 of them the answer lies behind the cut" in line


def test_where_all_fits_that_is_said(caplog, tiny_models):
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    generator = load_generator(str(tiny_models.generator), CPU)
    short = [Example(e.query, "Ulm", Passage.of(f"{n} {HEAD}")) for n, e in enumerate(examples())]
    assert told(caplog, Rows(short, retriever, generator)) == [
        "lengths    none of 5 passages is cut at 128 tokens",
        "lengths    none of 5 questions is cut at 50 tokens",
        "lengths    none of 5 prompts is cut at 256 tokens",
    ]
