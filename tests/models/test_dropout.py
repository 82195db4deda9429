"""Dropout that draws its zeros alone has torch's distribution, and the same zeros backwards."""

import math
from unittest import mock

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from dalm.models import dropout
from dalm.models.dropout import MOST, Dropout, draw_zeros_alone, positions

# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def test_every_element_is_as_likely_to_be_dropped_whatever_its_neighbour():
    torch.manual_seed(0)
    p, count, times = 0.1, 40, 20_000
    masks = torch.zeros(times, count)
    for mask in masks:
        mask[positions(count, p)] = 1
    deviation = math.sqrt(p * (1 - p) / times)
    assert (masks.mean(0) - p).abs().max() < 4 * deviation
    both = (masks[:, :-1] * masks[:, 1:]).mean(0)
    assert (both - p * p).abs().max() < 4 * math.sqrt(p * p * (1 - p * p) / times)
    spread = masks.sum(1).var()  # of a binomial distribution
    assert spread == pytest.approx(count * p * (1 - p), rel=0.05)


@pytest.mark.parametrize("p", [1e-7, 0.05, MOST])
@pytest.mark.parametrize("count", [0, 1, 7, 1_000])
def test_positions_are_sorted_distinct_and_within(p, count):
    for seed in range(50):
        torch.manual_seed(seed)
        found = positions(count, p).tolist()
        assert found == sorted(set(found))
        assert all(0 <= each < count for each in found)


def test_more_gaps_are_drawn_until_the_end_is_reached():
    for seed in range(20):
        torch.manual_seed(seed)
        with mock.patch.object(dropout, "SPARE", 0):  # too few half of the time
            found = positions(1_000, 0.2).tolist()
        torch.manual_seed(seed)
        assert found == positions(1_000, 0.2).tolist()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_gradient_has_the_zeros_of_the_values(dtype):
    torch.manual_seed(1)
    values = torch.randn(30, 20, dtype=dtype).t().requires_grad_()
    dropped = Dropout(0.2)(values)
    (gradient,) = torch.autograd.grad(dropped, values, torch.ones_like(dropped))
    kept = dropped != 0
    assert 0 < (~kept).sum() < 300
    assert torch.equal(gradient != 0, kept)
    assert torch.equal(dropped, torch.where(kept, values * (1 / 0.8), 0))
    assert torch.equal(gradient, kept * torch.tensor(1 / 0.8, dtype=dtype))


def test_the_same_state_of_the_generator_drops_the_same():
    module, values = Dropout(0.1), torch.ones(500)
    torch.manual_seed(2)
    first = module(values)
    assert not torch.equal(module(values), first)
    torch.manual_seed(2)
    assert torch.equal(module(values), first)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_torch_drops_what_it_drops_as_fast(p):
    values = torch.randn(100)
    torch.manual_seed(0)
    ours = Dropout(p)(values)
    torch.manual_seed(0)
    assert torch.equal(ours, torch.nn.Dropout(p)(values))


def test_nothing_is_dropped_in_evaluation_mode():
    values = torch.randn(100)
    assert Dropout(0.1).eval()(values) is values


def test_every_dropout_of_a_model_is_replaced_and_no_weight_is_renamed():
    config = LlamaConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = get_peft_model(
        LlamaForCausalLM(config), LoraConfig(target_modules="all-linear", lora_dropout=0.1)
    )
    model.extra = torch.nn.Dropout(0.3, inplace=True)
    names = list(model.state_dict())
    draw_zeros_alone(model)
    assert list(model.state_dict()) == names
    found = [each for each in model.modules() if isinstance(each, torch.nn.Dropout)]
    assert {type(each) for each in found if each is not model.extra} == {Dropout}
    assert {each.p for each in found if each is not model.extra} == {0.1}
    assert type(model.extra) is torch.nn.Dropout
