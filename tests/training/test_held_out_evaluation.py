"""Held-out text: bits per byte, and the weights with the fewest of them are kept."""

import math

import pytest
import torch

from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.training.held_out_evaluation import BestWeights, Figures, HeldOutTexts

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


def run(tmp_path, figures, most_lost=0.1) -> tuple[BestWeights, torch.nn.Linear]:
    """Take figures in turn; the weight is the step."""
    model = torch.nn.Linear(1, 1, bias=False)
    given = [Figures(step, *each) for step, each in enumerate(figures)]
    best = BestWeights(tmp_path, given.__getitem__, most_lost, writes=True)
    for step in range(len(given)):
        torch.nn.init.constant_(model.weight, float(step))
        best.evaluate(step, model)
    return best, model


def restored(best, model) -> float:
    best.restore(model)
    return model.weight.item()


def test_the_fewest_bits_of_the_domain(tmp_path):
    best, model = run(tmp_path, [(3.0,), (2.0,), (1.5,), (1.7,)])
    assert best.chosen.step == restored(best, model) == 2
    assert best.since_chosen() == 1


def test_general_text_within_its_limit(tmp_path):
    best, model = run(tmp_path, [(3.0, 2.0), (2.5, 2.1), (2.0, 2.15), (1.0, 2.3)])
    assert best.chosen.step == restored(best, model) == 2
    assert not best.within(best.history[3])


def test_where_all_lose_too_much_the_least_loss(tmp_path):
    best, model = run(tmp_path, [(3.0, 2.0), (2.5, 3.0), (2.0, 2.5), (1.0, 4.0)])
    assert best.chosen.step == restored(best, model) == 2
    assert not best.within(best.chosen)


def test_the_weights_before_the_first_update_are_never_kept(tmp_path):
    best, model = run(tmp_path, [(1.0,), (2.0,), (3.0,)])
    assert best.chosen.step == restored(best, model) == 1


def test_what_is_no_number_is_never_better(tmp_path):
    best, model = run(tmp_path, [(3.0, 2.0), (float("nan"), float("nan")), (2.5, 2.0)])
    assert best.chosen.step == restored(best, model) == 2
    best, _ = run(tmp_path, [(3.0, 2.0), (2.9, 2.0), (float("nan"), 2.0)])
    assert best.chosen.step == 1


def test_a_checkpoint_carries_figures_and_weights(tmp_path):
    best, model = run(tmp_path / "run", [(3.0,), (2.0,), (2.5,)])
    (tmp_path / "checkpoint").mkdir()
    best.save(tmp_path / "checkpoint")
    torch.nn.init.constant_(model.weight, 9.0)
    best.measure = lambda step: Figures(step, 1.0)
    best.evaluate(3, model)  # better, and after the checkpoint
    again = BestWeights(tmp_path / "other", best.measure, 0.1, writes=True)
    again.load(tmp_path / "checkpoint")
    assert again.history == best.history[:3]
    assert restored(again, model) == 1.0


def test_the_log_hears_of_figures_once(tmp_path):
    best, _ = run(tmp_path, [(3.0, 2.0), (2.0, 2.1)])
    assert best.observe() == {"domain_bits_per_byte": 2.0, "general_bits_per_byte": 2.1}
    assert best.observe() == {}
