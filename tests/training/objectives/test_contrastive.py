"""The contrastive objective against its formula, also where gold passages are unknown."""

import pytest
import torch
import torch.nn.functional as F

from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
from dalm.training.objectives.contrastive import Contrastive, Pairs, contrast

SAME = torch.zeros(4, 4).bool()
SAME[0, 3] = SAME[3, 0] = True
TWICE = {"by_query": SAME, "by_passage": SAME}
"""The passage of the first row is that of the last one, too."""


def vectors(seed):
    made = torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(made).requires_grad_()


@pytest.mark.parametrize("known", [[0, 1, 2], [0, 2], [1]])
def test_unknown_rows_count_neither_as_queries_nor_as_negatives(known):
    queries, passages = vectors(0), vectors(1)
    marked = torch.zeros(4).bool()
    marked[known] = True
    found = contrast(Pairs(queries, passages, TWICE, known=marked), 5.0)
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
    found = contrast(Pairs(queries, passages, TWICE, known=known), 5.0)["info_nce"]
    scores = 5 * queries[known] @ passages[known].T
    scores[0, 2] = scores[2, 0] = float("-inf")
    own = torch.arange(3)
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_nothing_known_is_nothing_to_contrast():
    queries, passages = vectors(0), vectors(1)
    found = contrast(Pairs(queries, passages, TWICE, known=torch.zeros(4).bool()), 5.0)
    assert found["info_nce"] == found["in_batch_accuracy"] == 0
    found["info_nce"].backward()
    assert not queries.grad.any()
    assert not passages.grad.any()


# The objective

OWN = torch.arange(3)


def embedded(retriever, batch):
    return retriever.embed(batch["query"], "query"), retriever.embed(batch["passage"], "passage")


def test_a_gold_text_that_stands_twice_is_no_negative(models, examples, in_batch):
    passages = [examples[0].passage, Passage.of(examples[0].passage.text.upper())]
    passages.append(examples[1].passage)
    chosen = zip(examples, passages, strict=False)
    rows = Rows([Example(e.query, e.answer, passage) for e, passage in chosen], *models)
    assert len(rows.base) == 2
    batch = rows.collate([0, 1, 2])
    loss = Contrastive(models[0], 20.0)(batch).total
    q, p = embedded(models[0], batch)
    scores = 20 * q @ p.T
    scores[0, 1] = scores[1, 0] = float("-inf")
    expected = (F.cross_entropy(scores, OWN) + F.cross_entropy(scores.T, OWN)) / 2
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert in_batch("rag_token")(batch).total.isfinite()


def test_hard_negatives_compete_in_the_contrastive_and_the_marginal_loss(
    models, examples, in_batch
):
    first = examples[0]
    hard = Example(first.query, first.answer, first.passage, (examples[4].passage,))
    batch = Rows([hard, examples[1]], *models).collate([0, 1])
    assert batch["passage"]["input_ids"].shape[0] == 3
    q, p = embedded(models[0], batch)
    by_query, by_passage = 20 * q @ p.T, 20 * p[:2] @ q.T
    expected = F.cross_entropy(by_query, OWN[:2]) + F.cross_entropy(by_passage, OWN[:2])
    loss = Contrastive(models[0], 20.0)(batch)
    assert loss.total.item() == pytest.approx(expected.item() / 2)
    assert loss.parts.keys() == {"info_nce", "in_batch_accuracy"}
    joint = in_batch("rag_token", num_candidates=8)(batch)
    assert 1 < joint.parts["prior_passages"] <= 3
