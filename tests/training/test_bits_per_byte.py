import math

import pytest
import torch

from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.training.held_out_evaluation import HeldOutTexts

TEXTS = ["Ada lives in Ulm.", "Bela keeps öl: 12 €.", "A dog. " * 20]


@pytest.fixture(scope="module")
def generator(tiny_models):
    return load_generator(str(tiny_models.generator), place("cpu", "fp32"))


def test_bits_per_byte_are_those_of_the_whole_model(generator):
    """Without the end token: it has no bytes."""
    held_out = HeldOutTexts("domain", generator, TEXTS, 256)
    nats = 0.0
    end = generator.tokenizer.eos_token_id
    for text in TEXTS:
        ids = generator.tokenizer(text, add_special_tokens=False).input_ids
        given = torch.tensor([[end, *ids]])
        with torch.no_grad():
            scores = generator.model(input_ids=given).logits.double().log_softmax(-1)
        nats -= float(scores[0, :-1].gather(-1, given[0, 1:, None]).sum())
    expected = nats / math.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert held_out.bytes == 17 + 23 + 140
    for batch in (1, 8):
        assert held_out.bits_per_byte("positions", batch) == pytest.approx(expected, rel=1e-6)


def test_measuring_leaves_the_model_as_it_was(generator):
    held_out = HeldOutTexts("domain", generator, TEXTS, 64)
    generator.train()
    held_out.bits_per_byte("positions", 4)
    assert generator.training
    assert all(p.grad is None for p in generator.parameters())
