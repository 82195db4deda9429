"""The losses against arithmetic by hand and against their identities."""

import math
from collections.abc import Callable

import pytest
import torch

from dalm.training import losses

DOUBLE = torch.float64


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def test_info_nce_by_hand() -> None:
    # s = [[ln 3, 0], [0, ln 3]]: every softmax gives the pair 3/4.
    scores = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]], dtype=DOUBLE)
    own = torch.tensor([0, 1])
    assert losses.info_nce(scores, scores.T, own, own).item() == pytest.approx(-math.log(0.75))


def test_info_nce_averages_both_directions() -> None:
    # By query the second row is undecided (1/2), by passage the columns are 3/4 and 1/2.
    scores = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]], dtype=DOUBLE)
    own = torch.tensor([0, 1])
    by_query = (-math.log(0.75) - math.log(0.5)) / 2
    assert losses.info_nce(scores, scores.T, own, own).item() == pytest.approx(by_query)


def test_hard_negatives_are_further_columns() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=DOUBLE)
    own = torch.tensor([0, 1])
    expected = (math.log(3) + math.log(2)) / 2
    assert losses.info_nce(scores, scores[:, :2].T, own, own).item() == pytest.approx(expected)


def test_rag_sequence_by_hand() -> None:
    # p = (3/4, 1/4), exp(L) = (1/2 · 1/2, 1/5): 3/16 + 1/20 = 19/80
    prior = torch.tensor([[0.75, 0.25]], dtype=DOUBLE).log()
    log_probs = torch.tensor([[[0.5, 0.5], [0.4, 0.5]]], dtype=DOUBLE).log()
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert losses.rag_sequence(prior, log_probs, mask).item() == pytest.approx(-math.log(19 / 80))


def test_rag_token_by_hand() -> None:
    # token 1: 3/8 + 1/10 = 19/40; token 2: 1/2
    prior = torch.tensor([[0.75, 0.25]], dtype=DOUBLE).log()
    log_probs = torch.tensor([[[0.5, 0.5], [0.4, 0.5]]], dtype=DOUBLE).log()
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert losses.rag_token(prior, log_probs, mask).item() == pytest.approx(-math.log(19 / 80))


def test_rag_token_and_sequence_differ_on_more_than_one_token() -> None:
    prior = torch.tensor([[0.5, 0.5]], dtype=DOUBLE).log()
    log_probs = torch.tensor([[[0.9, 0.1], [0.1, 0.9]]], dtype=DOUBLE).log()
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert losses.rag_token(prior, log_probs, mask).item() == pytest.approx(-2 * math.log(0.5))
    assert losses.rag_sequence(prior, log_probs, mask).item() == pytest.approx(-math.log(0.09))


@pytest.mark.parametrize("loss", [losses.rag_sequence, losses.rag_token])
def test_what_lies_behind_an_answer_does_not_count(loss: Callable[..., torch.Tensor]) -> None:
    prior = _random(3, 4).log_softmax(1)
    log_probs = -_random(3, 4, 5).abs()
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] + [False] * 4])
    noisy = torch.where(mask[:, None], log_probs, torch.full_like(log_probs, -3.0))
    clean = log_probs * mask[:, None]
    assert torch.allclose(loss(prior, noisy, mask), loss(prior, clean, mask))


@pytest.mark.parametrize("loss", [losses.rag_sequence, losses.rag_token])
def test_one_candidate_is_supervised_tuning(loss: Callable[..., torch.Tensor]) -> None:
    log_probs = -_random(3, 1, 5).abs()
    mask = torch.ones(3, 5, dtype=torch.bool)
    prior = torch.zeros(3, 1, dtype=DOUBLE)
    assert torch.allclose(loss(prior, log_probs, mask), -log_probs.sum((1, 2)))


def test_one_token_makes_both_the_same() -> None:
    prior, log_probs = _random(3, 4).log_softmax(1), -_random(3, 4, 1).abs()
    mask = torch.ones(3, 1, dtype=torch.bool)
    token, sequence = (f(prior, log_probs, mask) for f in (losses.rag_token, losses.rag_sequence))
    assert torch.allclose(token, sequence)


def test_rag_sequence_pulls_the_prior_to_the_posterior() -> None:
    scores = _random(3, 4).requires_grad_()
    log_probs = -_random(3, 4, 5, seed=1).abs()
    mask = torch.ones(3, 5, dtype=torch.bool)
    losses.rag_sequence(scores.log_softmax(1), log_probs, mask).sum().backward()
    prior = scores.detach().softmax(1)
    posterior = (prior.log() + log_probs.sum(-1)).softmax(1)
    assert torch.allclose(scores.grad, prior - posterior)


@pytest.mark.parametrize("loss", [losses.rag_sequence, losses.rag_token])
def test_a_candidate_that_is_masked_out_has_no_part(loss: Callable[..., torch.Tensor]) -> None:
    scores = _random(2, 3).requires_grad_()
    dropped = torch.tensor([[False, False, True], [False, False, False]])
    log_probs = (-_random(2, 3, 4, seed=1).abs()).requires_grad_()
    mask = torch.ones(2, 4, dtype=torch.bool)
    masked = scores.masked_fill(dropped, float("-inf")).log_softmax(1)
    total = loss(masked, log_probs, mask)
    total.sum().backward()
    alone = loss(scores[:1, :2].log_softmax(1), log_probs[:1, :2], mask[:1])
    assert torch.allclose(total[:1], alone)
    assert scores.grad[0, 2] == 0
    assert log_probs.grad[0, 2].abs().sum() == 0
    assert scores.grad.isfinite().all()


def test_the_mixed_derivative_tells_joint_from_separate() -> None:
    """∂²loss/∂s∂ℓ is what lets the generator teach the retriever: zero for `dalm`."""
    scores, log_probs = _random(1, 3).requires_grad_(), (-_random(1, 3, 2).abs()).requires_grad_()
    mask = torch.ones(1, 2, dtype=torch.bool)

    def mixed(loss: torch.Tensor) -> float:
        (by_score,) = torch.autograd.grad(loss.sum(), scores, create_graph=True)
        if not by_score.requires_grad:
            return 0.0
        (both,) = torch.autograd.grad(by_score[0, 0], log_probs, allow_unused=True)
        return 0.0 if both is None else both.abs().max().item()

    prior = scores.log_softmax(1)
    assert mixed(losses.rag_token(prior, log_probs, mask)) > 1e-3
    assert mixed(losses.rag_sequence(prior, log_probs, mask)) > 1e-3
    apart = losses.dalm_nll(prior[:, 0], log_probs[:, 0], torch.tensor([2]))
    assert mixed(apart) == 0


def test_effective_passages() -> None:
    weights = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -1e9, -1e9, -1e9]], dtype=DOUBLE)
    assert losses.effective_passages(weights).tolist() == pytest.approx([4.0, 1.0])


# Distillation


def test_distil_by_hand() -> None:
    # target (2/3, 1/3), p = (1/2, 1/2): KL = 2/3 ln 4/3 + 1/3 ln 2/3
    prior = torch.tensor([[0.5, 0.5]], dtype=DOUBLE).log()
    logits = torch.tensor([[math.log(2), 0.0]], dtype=DOUBLE)
    expected = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert losses.distil(prior, logits).item() == pytest.approx(expected, abs=1e-12)


def test_distil_is_zero_at_its_target_and_pulls_to_it() -> None:
    scores, logits = _random(3, 4).requires_grad_(), _random(3, 4, seed=1).requires_grad_()
    losses.distil(scores.log_softmax(1), logits).sum().backward()
    assert torch.allclose(scores.grad, scores.detach().softmax(1) - logits.detach().softmax(1))
    assert logits.grad is None, "the target takes no gradient"
    assert torch.allclose(losses.distil(logits.log_softmax(1), logits), torch.zeros(3).double())


def test_a_constant_on_every_passage_changes_no_target() -> None:
    """pdist: a generator that finds the answer easy or hard judges the passages the same."""
    prior, log_probs = _random(3, 4).log_softmax(1), -_random(3, 4, 5).abs()
    mask = torch.ones(3, 5, dtype=torch.bool)
    plain, shifted = (losses.mean_log_probs(table, mask) for table in (log_probs, log_probs - 7))
    found = losses.distil(prior, shifted / 0.3)
    assert torch.allclose(found, losses.distil(prior, plain / 0.3), atol=1e-12)
    assert not torch.allclose(  # of lsr it isn't true
        losses.distil(prior, shifted.exp() / 0.3), losses.distil(prior, plain.exp() / 0.3)
    )


def test_mean_log_probs_are_over_an_answers_own_tokens() -> None:
    log_probs = torch.tensor([[[-1.0, -3.0, 0.0], [-2.0, -4.0, -9.0]]], dtype=DOUBLE)
    mask = torch.tensor([[True, True, False]])
    assert losses.mean_log_probs(log_probs, mask).tolist() == [[-2.0, -3.0]]


INF = float("inf")


def test_a_candidate_that_is_ruled_out_has_no_part_of_the_target_but_of_p() -> None:
    # target (2/3, 1/3, 0), p = (1/4, 1/4, 1/2): KL = 2/3 ln 8/3 + 1/3 ln 4/3
    scores = torch.tensor([[0.0, 0.0, math.log(2)]], dtype=DOUBLE).requires_grad_()
    logits = torch.tensor([[math.log(2), 0.0, -INF]], dtype=DOUBLE)
    found = losses.distil(scores.log_softmax(1), logits)
    expected = 2 / 3 * math.log(8 / 3) + 1 / 3 * math.log(4 / 3)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    found.backward()
    p_minus_target = [1 / 4 - 2 / 3, 1 / 4 - 1 / 3, 1 / 2]
    assert scores.grad[0].tolist() == pytest.approx(p_minus_target, abs=1e-12)


def test_a_candidate_that_is_in_neither_is_none() -> None:
    scores, logits = _random(2, 3), _random(2, 3, seed=1)
    alone = losses.distil(scores.log_softmax(1), logits)
    none = torch.full((2, 2), -INF, dtype=DOUBLE)
    padded = torch.cat([scores, none], 1).requires_grad_()
    found = losses.distil(padded.log_softmax(1), torch.cat([logits, none], 1))
    assert torch.allclose(found, alone, atol=1e-14)
    found.sum().backward()
    assert padded.grad.isfinite().all()
    assert not padded.grad[:, 3:].any()


def test_mixed_target_by_hand() -> None:
    # (1/2, 1/4, 1/4) and (3/4, -, 1/4): 3/4 · the first + 1/4 · the second
    logits = torch.tensor([[1 / 2, 1 / 4, 1 / 4]] * 2, dtype=DOUBLE).log() + 5
    teacher = torch.tensor([[math.log(3) + 9, -INF, 9.0], [-INF, -INF, -INF]], dtype=DOUBLE)
    mixed = losses.mixed_target(logits, teacher, 0.25).exp()
    assert mixed[0].tolist() == pytest.approx([9 / 16, 3 / 16, 4 / 16], abs=1e-12)
    assert mixed[1].tolist() == pytest.approx([1 / 2, 1 / 4, 1 / 4], abs=1e-12)
    alone = losses.mixed_target(logits, teacher, 1.0).exp()
    assert alone[0].tolist() == pytest.approx([3 / 4, 0, 1 / 4], abs=1e-12)
    assert alone[1].tolist() == pytest.approx([1 / 2, 1 / 4, 1 / 4], abs=1e-12)
    none = losses.mixed_target(logits, teacher, 0.0).exp()
    assert none.tolist() == [pytest.approx([1 / 2, 1 / 4, 1 / 4], abs=1e-12)] * 2


def test_margin_mse_by_hand() -> None:
    # margins (1, 4) for targets (3, 2): ((1 − 3)² + (4 − 2)²) / 2 = 4; (5,) for (1,): 16
    scores = torch.tensor([[3.0, 2.0, -1.0], [5.0, 0.0, 9.0]], dtype=DOUBLE)
    target = torch.tensor([[9.0, 6.0, 7.0], [2.0, 1.0, -INF]], dtype=DOUBLE)
    assert losses.margin_mse(scores, target).tolist() == [4.0, 16.0]


def test_margin_mse_pulls_the_margins_to_the_targets() -> None:
    scores = torch.tensor([[1.0, 0.0, -INF]], dtype=DOUBLE).requires_grad_()
    target = torch.tensor([[5.0, 2.0, -INF]], dtype=DOUBLE)
    losses.margin_mse(scores, target).sum().backward()
    # d/ds_0 (s_0 − s_1 − 3)² = 2 · (1 − 3): the positive goes up, the other one down
    assert scores.grad[0].tolist() == [-4.0, 4.0, 0.0]
    assert not losses.margin_mse(target, target).any()


@pytest.mark.parametrize("effective", [1.2, 2.0, 3.5])
@pytest.mark.parametrize("size", [1e-2, 1.0, 50.0])
def test_the_temperature_that_leaves_so_many_passages(effective: float, size: float) -> None:
    logits = size * _random(6, 5)
    temperature = losses.temperature_for(logits, effective)
    found = losses.effective_passages(logits / temperature).mean().item()
    assert found == pytest.approx(effective, abs=1e-3)


def test_the_temperature_where_there_is_no_choice() -> None:
    assert losses.temperature_for(torch.zeros(3, 1), 1.0) == 1.0
    assert math.isfinite(losses.temperature_for(torch.zeros(3, 4), 4 / 3))


def test_entropy() -> None:
    weights = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], dtype=DOUBLE)
    assert losses.entropy(weights.log()).tolist() == pytest.approx([math.log(2), 0.0])
