"""Weights and optimizer state are loaded as they were written, or it is said why not."""

import importlib.util

import pytest
import torch

from dalm.errors import UserError
from dalm.training import training_state

WIDTH = 80
"""Weights of fewer than 4,096 numbers have no state in 8 bits."""


def adamw_8bit(parameters, **options):
    return importlib.import_module("bitsandbytes").optim.AdamW8bit(parameters, **options)


OPTIMIZERS = [
    torch.optim.AdamW,
    pytest.param(
        adamw_8bit,
        marks=pytest.mark.skipif(
            importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes"
        ),
    ),
]


def model() -> torch.nn.Module:
    made = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 1))
    made[1].weight.requires_grad_(False)
    return made


def step(made: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    made(torch.linspace(-1, 1, WIDTH)[None]).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("optimizer_of", OPTIMIZERS)
def test_a_step_after_loading_is_the_step_that_would_have_come(tmp_path, optimizer_of):
    first = model()
    optimizer = optimizer_of([p for p in first.parameters() if p.requires_grad], lr=0.1)
    step(first, optimizer)
    training_state.save(tmp_path, first, optimizer)
    again = model()
    with torch.no_grad():
        again[1].weight.copy_(first[1].weight)  # a frozen weight is no part of it
    other = optimizer_of([p for p in again.parameters() if p.requires_grad], lr=0.1)
    training_state.load_weights(tmp_path, again)
    training_state.load_optimizer(tmp_path, again, other)
    for ours, theirs in zip(again.parameters(), first.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        state, expected = other.state.get(ours, {}), optimizer.state.get(theirs, {})
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            assert type(state[key]) is type(value)
            assert torch.equal(torch.as_tensor(state[key]), torch.as_tensor(value)), key
    for made, its in ((first, optimizer), (again, other)):
        step(made, its)
    assert all(map(torch.equal, again.parameters(), first.parameters()))


def test_a_weight_without_a_gradient_has_no_state_after_loading(tmp_path):
    first, again = model(), model()
    optimizer = torch.optim.AdamW(first.parameters())
    first[1].bias.grad = torch.ones(1)
    optimizer.step()
    training_state.save(tmp_path, first, optimizer)
    other = torch.optim.AdamW(again.parameters())
    training_state.load_optimizer(tmp_path, again, other)
    assert [*other.state] == [again[1].bias]


@pytest.mark.parametrize("change", ["shape", "name", "frozen"])
def test_other_weights_are_refused(tmp_path, change):
    first, other = model(), model()
    training_state.save(tmp_path, first, torch.optim.AdamW(first.parameters()))
    if change == "shape":
        other[1] = torch.nn.Linear(WIDTH, 2)
        other[1].weight.requires_grad_(False)
    elif change == "name":
        other = torch.nn.Sequential(torch.nn.Identity(), *other)
    else:
        other.requires_grad_(False)
    with pytest.raises(UserError, match="holds other weights than this run trains"):
        training_state.load_weights(tmp_path, other)


def test_a_checkpoint_of_an_earlier_version_is_named(tmp_path):
    (tmp_path / "trainable.safetensors").touch()
    with pytest.raises(UserError, match="written by an earlier version, without state"):
        training_state.load_weights(tmp_path, model())


def test_what_the_system_says_of_a_write_is_not_wrapped(tmp_path):
    made = model()
    (tmp_path / "state").write_text("a file where the folder is to be")
    with pytest.raises(OSError, match="state"):
        training_state.save(tmp_path, made, torch.optim.AdamW(made.parameters()))
