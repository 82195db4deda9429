"""The contrast of a batch in which some gold passages are unknown."""

import pytest
import torch
import torch.nn.functional as F

from dalm.training.objectives.contrastive import Pairs, contrast

KEYS = torch.tensor([1, 2, 3, 1])


def vectors(seed):
    made = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(made).requires_grad_()


@pytest.mark.parametrize("known", [[0, 1, 2], [0, 2], [1]])
def test_unknown_rows_count_neither_as_queries_nor_as_negatives(known):
    queries, passages = vectors(0), vectors(1)
    marked = torch.zeros(4).bool()
    marked[known] = True
    found = contrast(Pairs(queries, passages, KEYS, marked), 5.0)
    scores, own = 5 * queries[known] @ passages[known].T, torch.arange(len(known))
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    assert found["info_nce"].item() == pytest.approx(expected.item(), abs=1e-12)
    right = (scores.argmax(1) == own).double().mean().item()
    assert found["in_batch_accuracy"].item() == pytest.approx(right)
    for tensor in (queries, passages):
        (ours,) = torch.autograd.grad(found["info_nce"], tensor, retain_graph=True)
        (theirs,) = torch.autograd.grad(expected, tensor, retain_graph=True)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_known_text_that_stands_twice_is_no_negative():
    queries, passages = vectors(0), vectors(1)
    known = torch.tensor([True, True, False, True])
    found = contrast(Pairs(queries, passages, KEYS, known), 5.0)["info_nce"]
    scores = 5 * queries[known] @ passages[known].T
    scores[0, 2] = scores[2, 0] = float("-inf")
    own = torch.arange(3)
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_nothing_known_is_nothing_to_contrast():
    queries, passages = vectors(0), vectors(1)
    found = contrast(Pairs(queries, passages, KEYS, torch.zeros(4).bool()), 5.0)
    assert found["info_nce"] == found["in_batch_accuracy"] == 0
    found["info_nce"].backward()
    assert not queries.grad.any()
    assert not passages.grad.any()
