"""A row is shown as a model reads it: the tokens of its loss marked, EOS in sight."""

import re

import pytest

from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage
from dalm.training import dry_run
from dalm.training.data.sft_rows import SftRows

CPU = place("cpu", "fp32")


@pytest.fixture
def generator(tiny_models):
    return load_generator(str(tiny_models.generator), CPU, max_length=200)


@pytest.fixture
def rows(generator, tiny_rows):
    examples = [Example(r["Query"], r["Answer"], Passage.of(r["Passage"])) for r in tiny_rows]
    return SftRows(examples, generator)


def test_the_answers_tokens_and_eos_are_marked(rows, generator):
    row = dry_run.preview_prompt(generator, rows.collate([0])["prompts"][0])
    text = dry_run.marked(row)
    frame, marks = text.split("Answer:\n")
    assert "⟦" not in frame
    assert "Where does Ada live?" in frame
    assert re.fullmatch(r"(⟦[^⟦⟧]*⟧)+", marks)
    assert marks.endswith("⟦<eos>⟧")
    assert marks.replace("⟦", "").replace("⟧", "").removesuffix("<eos>").strip() == "in Ulm"
    assert marks.count("⟦") == sum(row.in_loss)


def test_the_original_toolkits_loss_is_on_the_prompt_too(rows, generator):
    prompt = rows.collate([0])["prompts"][0]
    row = dry_run.preview_prompt(generator, prompt, whole=True)
    assert list(row.in_loss) == [False] + [True] * (prompt.length - 1)


def test_a_character_of_several_tokens_stays_whole(generator):
    tokens = [*generator.tokenise(["Ulm 中文!"])[0].tolist(), generator.frame.end]
    row = dry_run.PreviewRow("generator", generator.tokenizer, tokens, [True] * len(tokens))
    text = dry_run.marked(row)
    assert "\ufffd" not in text
    assert "⟦中⟧⟦文⟧" in text


def test_a_retrievers_row_has_no_token_in_the_loss(tiny_models, tiny_rows):
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    tokens = retriever.tokenise([tiny_rows[0]["Query"]], "query")[0].tolist()
    text = dry_run.marked(dry_run.preview_text(retriever, tokens, "query"))
    assert text == "[CLS] where does ada live? [SEP]"
