"""The contrastive objective against its formula, in float64."""

import pytest
import torch
import torch.nn.functional as F

from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
from dalm.training.objectives.objective import Contrastive

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
