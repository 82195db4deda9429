"""Rows computed twice give the values and gradients of rows computed once."""

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from dalm.training.gradient_cache import (
    Plan,
    micro_batches,
    not_negligible,
    recomputed,
    without_gradient,
)

LENGTHS = np.array([3, 1, 4, 2, 4, 3, 1])


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 1, dtype=torch.float64)


INPUTS = [
    torch.randn(length, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    for n, length in enumerate(LENGTHS.tolist())
]


def plan(layer, seen=None, weigh=None, size=2):
    def run(rows):
        if seen is not None:
            seen.append((torch.is_grad_enabled(), rows.tolist()))
        values = [layer(INPUTS[row]).tanh().flatten() for row in rows]
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True)

    return Plan(run, LENGTHS, size, weigh or (lambda g, values: torch.ones(7)))


def loss_of(table):
    return (table.exp().sum(1).log() * torch.arange(1, 8)).sum()


def test_values_and_gradients_are_those_of_one_pass(layer):
    parameters = list(layer.parameters())
    ours = recomputed(plan(layer), parameters)
    values = [layer(each).tanh().flatten() for each in INPUTS]
    plain = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-14)
    found = torch.autograd.grad(loss_of(ours), parameters)
    expected = torch.autograd.grad(loss_of(plain), parameters)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def plain(made):
    """Compute all rows in the micro-batches of a plan, every activation kept."""
    groups = made.groups(np.arange(len(made.lengths)))
    table = torch.zeros(len(made.lengths), made.lengths.max(), dtype=torch.float64)
    for rows in groups:
        part = made.run(rows)
        padded = torch.nn.functional.pad(part, (0, table.shape[1] - part.shape[1]))
        table = table.index_put((torch.from_numpy(rows),), padded)
    return table


def with_dropout(layer, seen=None, weigh=None):
    """Return a plan whose masks depend on the order and the shapes of the micro-batches."""
    made = plan(layer, seen, weigh)
    dropout = torch.nn.Dropout(0.5)
    return made._replace(run=lambda rows: dropout(made.run(rows)))


@pytest.mark.parametrize("kept", [range(7), [2], []])
def test_the_second_pass_draws_the_masks_of_the_first(layer, kept):
    """Rows that are left out come along where they share a micro-batch, and draw their masks."""
    sizes = torch.zeros(7).index_fill(0, torch.tensor(kept, dtype=torch.long), 1.0)
    made = with_dropout(layer, weigh=lambda g, values: sizes)
    torch.manual_seed(3)
    expected_values = plain(made)
    drawn_by_plain = torch.rand(1)
    torch.manual_seed(3)
    ours = recomputed(made, list(layer.parameters()))
    drawn_by_ours = torch.rand(1)
    torch.testing.assert_close(ours, expected_values, rtol=0, atol=0)
    assert torch.equal(drawn_by_ours, drawn_by_plain)
    before = torch.get_rng_state()
    found = torch.autograd.grad(loss_of(ours), list(layer.parameters()), allow_unused=True)
    assert torch.equal(torch.get_rng_state(), before), "training goes on drawing where it was"
    if not len(kept):
        assert found == (None, None)
        return
    beside = [group for group in made.groups(np.arange(7)) if np.isin(group, kept).any()]
    chosen = torch.from_numpy(np.concatenate(beside))
    left = torch.zeros(7).index_fill(0, chosen, 1.0)
    expected_values.register_hook(lambda g: g * left[:, None])
    expected = torch.autograd.grad(loss_of(expected_values), list(layer.parameters()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [1, 2, 9])
def test_kept_micro_batches_are_computed_once_and_give_the_same(layer, kept):
    seen = []
    made = with_dropout(layer, seen)._replace(kept=kept)
    torch.manual_seed(3)
    expected = plain(made)
    torch.manual_seed(3)
    seen.clear()
    ours = recomputed(made, list(layer.parameters()))
    groups = [group.tolist() for group in made.groups(np.arange(7))]
    assert seen == [(number < kept, group) for number, group in enumerate(groups)]
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    seen.clear()
    found = torch.autograd.grad(loss_of(ours), list(layer.parameters()))
    assert seen == [(True, group) for group in groups[kept:]]
    exact = torch.autograd.grad(loss_of(expected), list(layer.parameters()))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def test_rows_that_do_not_matter_are_left_out_of_those_that_are_not_kept(layer):
    """A kept micro-batch is run backwards as a whole, or not at all."""
    seen = []
    made = plan(layer, seen, lambda g, values: torch.tensor([1.0, 1, 0, 0, 0, 0, 0]))
    table = recomputed(made._replace(kept=1), list(layer.parameters()))
    assert made.groups(np.arange(7))[0].tolist() == [2, 4]
    seen.clear()
    found = torch.autograd.grad(loss_of(table), list(layer.parameters()))
    assert seen == [(True, [0, 1])]
    chosen = torch.tensor([0, 1])
    exact = torch.autograd.grad(loss_of_rows(layer, chosen), list(layer.parameters()))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def loss_of_rows(layer, chosen):
    """Return the part of `loss_of` that has a gradient through some rows."""
    table = plain(plan(layer))
    weights = torch.zeros(7, 1, dtype=torch.float64).index_fill(0, chosen, 1.0)
    return loss_of(table.detach() + weights * (table - table.detach()))


def test_a_plan_may_say_which_rows_are_computed_together(layer):
    seen = []
    made = plan(layer, seen)._replace(grouping=lambda rows: [rows[::2], rows[1::2]])
    table = recomputed(made, list(layer.parameters()))
    assert [rows for _, rows in seen] == [[0, 2, 4, 6], [1, 3, 5]]
    found = torch.autograd.grad(loss_of(table), list(layer.parameters()))
    exact = torch.autograd.grad(loss_of(plain(plan(layer))), list(layer.parameters()))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


def test_rows_that_drew_nothing_are_computed_again_one_by_one(layer):
    """Only some micro-batches draw: those come again whole, the others' rows as they are needed."""
    seen = []
    made = plan(layer, seen, lambda g, values: torch.tensor([1.0, 1, 0, 0, 1, 0, 0]))
    first = made.groups(np.arange(7))[0].tolist()

    def run(rows):
        values = made.run(rows)
        return torch.nn.functional.dropout(values, 0.5) if rows.tolist() == first else values

    table = recomputed(made._replace(run=run), list(layer.parameters()))
    seen.clear()
    loss_of(table).backward()
    assert first == [2, 4]
    assert sorted(rows for _, rows in seen) == [[0, 1], [2, 4]]


def test_every_row_runs_once_without_gradient_and_the_weighty_ones_once_with(layer):
    seen = []

    def weigh(gradient, values):
        assert gradient.shape == values.shape == (7, 4)
        return torch.tensor([0, 2.0, 0, 0, 1.0, 3.0, 0])

    table = recomputed(plan(layer, seen, weigh), list(layer.parameters()))
    assert {graded for graded, _ in seen} == {False}
    assert sorted(row for _, rows in seen for row in rows) == list(range(7))
    seen.clear()
    loss_of(table).backward()
    assert {graded for graded, _ in seen} == {True}
    assert sorted(row for _, rows in seen for row in rows) == [1, 4, 5]


def test_nothing_weighty_is_no_gradient(layer):
    nothing = plan(layer, weigh=lambda g, values: torch.zeros(7))
    table = recomputed(nothing, list(layer.parameters()))
    loss_of(table).backward()
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())


def test_frozen_weights_and_no_grad_run_once(layer):
    with torch.no_grad():
        assert not recomputed(plan(layer), list(layer.parameters())).requires_grad
    layer.requires_grad_(False)
    assert not recomputed(plan(layer), list(layer.parameters())).requires_grad
    torch.testing.assert_close(
        without_gradient(plan(layer)), recomputed(plan(layer), list(layer.parameters()))
    )


def test_some_frozen_weights_get_nothing(layer):
    layer.bias.requires_grad_(False)
    loss_of(recomputed(plan(layer), list(layer.parameters()))).backward()
    assert layer.weight.grad.any()
    assert layer.bias.grad is None


def test_one_gradient_at_a_time_stands_beside_the_sum():
    layers = torch.nn.Sequential(*(torch.nn.Linear(4, 4, bias=False) for _ in range(5)))
    given, standing = [], []

    def watch(gradient):
        given.append(StorageWeakRef(gradient.untyped_storage()))
        standing.append(sum(not each.expired() for each in given))

    parameters = list(layers.parameters())
    for parameter in parameters:
        parameter.register_hook(watch)
    made = plan(lambda row: layers(row.float() @ torch.ones(2, 4)).sum(1))
    loss_of(recomputed(made, parameters)).backward()
    *by_group, _ = np.reshape(standing, (-1, len(parameters)))  # the last are the sums
    assert len(by_group) > 2
    assert np.max(by_group) == 1


def test_weights_whose_gradient_is_one_and_the_same_tensor():
    a, b = (torch.zeros(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    made = plan(lambda row: (a + b)[: len(row)], size=1)
    found = torch.autograd.grad(loss_of(recomputed(made, [a, b])), [a, b])
    plain = torch.nn.utils.rnn.pad_sequence([(a + b)[:n] for n in LENGTHS], batch_first=True)
    expected = torch.autograd.grad(loss_of(plain.tanh()), [a, b])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_backward_pass_computes_in_the_precision_of_the_forward_pass():
    """A loss is sent back outside of autocast."""
    layer = torch.nn.Linear(2, 1)
    seen = []

    def run(rows):
        seen.append(layer(torch.ones(len(rows), 2)).dtype)
        return layer(torch.ones(len(rows), 2)).float()

    made = Plan(run, np.ones(3, int), 3, lambda g, values: torch.ones(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        table = recomputed(made, list(layer.parameters()))
    table.sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16]


@pytest.mark.parametrize(
    ("share", "kept"),
    [(0.0, [0, 1, 3]), (0.05, [0, 1, 3]), (0.15, [0, 3]), (0.35, [3]), (0.99, [3])],
)
def test_the_lightest_rows_up_to_a_share_of_the_sum_are_left_out(share, kept):
    assert not_negligible(torch.tensor([2.0, 1.0, 0.0, 7.0]), share).tolist() == kept


def test_a_row_that_is_not_a_number_is_not_left_out():
    assert not_negligible(torch.tensor([2.0, torch.nan, 0.0]), 0.0).tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_micro_batches_hold_no_more_tokens_than_the_longest_rows_would(size):
    groups = micro_batches(LENGTHS, size)
    assert sorted(np.concatenate(groups).tolist()) == list(range(7))
    for group in groups:
        assert len(group) <= size
        assert len(group) * LENGTHS[group].max() <= size * LENGTHS.max()
