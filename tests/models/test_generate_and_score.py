"""Answers and references' log-probabilities from one reading are those of two readings."""

from typing import Any

import pytest
import torch

from dalm.models import generator as generator_module
from dalm.models.generate_and_score import Generated, generate_and_score
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import place
from dalm.prompts import Prompt

PASSAGES = (
    "Ada lives in Ulm. " * 4,
    "Bela keeps two cats.",
    "At home Gero keeps an old horse. " * 2,
)
QUERIES = ("Where does Ada live?", "What does Bela keep?", "Where does Gero live at home?")
REFERENCES = (["in Ulm", "Ulm", "a town"], [], ["an old horse, at home"])


@pytest.fixture(scope="module")
def generator(tiny_models: Any) -> Generator:
    """A generator whose weights are large enough for answers to depend on the prompt."""
    generator = load_generator(str(tiny_models.generator), place("cpu", "fp32"))
    for weight in generator.parameters():
        weight.data *= 8 if weight.dim() > 1 else 1
    return generator


def joined(generator: Generator, row: int, reference: str | None) -> Prompt:
    (passage,) = generator.tokenise_passages([PASSAGES[row]])
    (query,) = generator.tokenise_queries([QUERIES[row]])
    answer = None if reference is None else generator.tokenise_answers([reference])[0].tolist()
    return generator.frame.join([passage.tolist()], query.tolist(), answer, 256)


def alone(generator: Generator, prompt: Prompt) -> float:
    """Score a prompt's answer by the whole model."""
    ids = torch.tensor([prompt.tokens])
    with torch.no_grad():
        logits = generator.model(input_ids=ids).logits.log_softmax(-1)
    whole = logits[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
    return float(whole[prompt.answer_start - 1 :].mean())


def together(generator: Generator, asked: list[Prompt], after: Any) -> list[Generated]:
    """Return what is made of all prompts, in their order."""
    made: dict[int, Generated] = {}
    for batch in generate_and_score(generator, asked, after, 6):
        assert not made.keys() & batch.keys()
        made |= batch
    return [made[row] for row in range(len(asked))]


@pytest.mark.parametrize("tokens", [8_192, 1])
def test_one_reading_gives_what_two_give(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    monkeypatch.setattr(generator_module, "GENERATE_TOKENS", tokens)
    monkeypatch.setattr(generator.tokenizer, "batch_decode", lambda rows, **_: list(map(str, rows)))
    asked = [joined(generator, row, None) for row in range(3)]
    whole = [[joined(generator, row, text) for text in REFERENCES[row]] for row in range(3)]
    after = [[each.tokens[each.answer_start :] for each in some] for some in whole]
    found = together(generator, asked, after)
    assert [each.answer for each in found] == generator.generate(asked, 6)
    assert len({each.answer for each in found}) > 1
    for each, some in zip(found, whole, strict=True):
        assert each.log_probs == pytest.approx([alone(generator, p) for p in some], abs=1e-4)


def test_prompts_without_any_reference_are_answered(generator: Generator) -> None:
    asked = [joined(generator, row, None) for row in range(2)]
    found = together(generator, asked, [[], []])
    assert [each.answer for each in found] == generator.generate(asked, 6)
    assert [each.log_probs for each in found] == [[], []]
