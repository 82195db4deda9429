"""The reranker's objectives equal the formulas, computed by hand from the model's scores."""

import math

import pytest
import torch

from dalm.models import loading
from dalm.models.reranker import load_reranker
from dalm.training.data.labelled_candidates import LabelledCandidates
from dalm.training.data.reranker_rows import RerankerRows
from dalm.training.objectives.reranker_objective import Reranking

NONE = float("-inf")
QUESTIONS = [
    ("Where does Ada live?", ("Ada lives in Ulm.", "Ada keeps a dog.", "Bela lives in Bern.")),
    ("What does Bela keep?", ("Bela keeps two cats.", "Bela lives in Bern.")),
]


@pytest.fixture
def reranker(tiny_models):
    return load_reranker(str(tiny_models.reranker), loading.place("cpu", "fp32"), to_train=True)


def run(reranker, kind, labels, **options):
    questions = [LabelledCandidates(*q, each) for q, each in zip(QUESTIONS, labels, strict=True)]
    rows = RerankerRows(questions, reranker, num_candidates=8)
    objective = Reranking(reranker, kind, **options)
    return objective(rows.collate([0, 1]))


def scores_of(reranker) -> list[list[float]]:
    return [
        [float(s) for s in reranker.logits([(query, text) for text in texts])]
        for query, texts in QUESTIONS
    ]


def test_binary_is_the_mean_over_pairs_with_the_right_ones_weighted(reranker):
    loss = run(reranker, "binary", [(1.0, 0.0, 0.0), (1.0, 0.0)], right_weight=1.5)
    (right, *wrong), (other_right, *other_wrong) = scores_of(reranker)

    def log_sigmoid(score):
        return -math.log1p(math.exp(-score))

    expected = -1.5 * (log_sigmoid(right) + log_sigmoid(other_right))
    expected -= sum(log_sigmoid(-score) for score in (*wrong, *other_wrong))
    assert loss.total.item() == pytest.approx(expected / 5, rel=1e-5)


def test_listwise_is_the_cross_entropy_with_the_softmax_of_the_labels(reranker):
    labels = [(2.0, 1.0, NONE), (0.5, 0.0)]
    loss = run(reranker, "listwise", labels)
    expected = 0.0
    for scores, given in zip(scores_of(reranker), labels, strict=True):
        total = math.log(sum(math.exp(score) for score in scores))
        weights = [math.exp(label) for label in given]
        for score, weight in zip(scores, weights, strict=True):
            expected -= weight / sum(weights) * (score - total)
    assert loss.total.item() == pytest.approx(expected / 2, rel=1e-5)
    one_hot = run(reranker, "listwise", [(0.0, NONE, NONE), (0.0, NONE)])
    best = [scores[0] - math.log(sum(map(math.exp, scores))) for scores in scores_of(reranker)]
    assert one_hot.total.item() == pytest.approx(-sum(best) / 2, rel=1e-5)


def test_what_is_logged_counts_questions_and_tokens(reranker):
    loss = run(reranker, "listwise", [(1.0, 0.0, 0.0), (1.0, 0.0)])
    first = [scores[0] > max(scores[1:]) for scores in scores_of(reranker)]
    assert loss.parts["best_first"].item() == sum(first) / 2
    tokenizer = reranker.model.tokenizer
    lengths = [len(tokenizer(q, text).input_ids) for q, texts in QUESTIONS for text in texts]
    assert loss.tokens == sum(lengths)
    assert loss.padded_tokens == 5 * max(lengths)


def test_every_weight_gets_a_gradient(reranker):
    run(reranker, "binary", [(1.0, 0.0, 0.0), (1.0, 0.0)]).total.backward()
    without = [n for n, p in reranker.named_parameters() if p.grad is None]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in reranker.parameters())


def test_recomputed_activations_give_the_same_gradient(reranker):
    reranker.train()
    found = []
    for _ in range(2):
        reranker.zero_grad()
        run(reranker, "listwise", [(1.0, 0.0, 0.5), (1.0, 0.0)]).total.backward()
        found.append([p.grad.clone() for p in reranker.parameters()])
        reranker.checkpoint_activations()
    for plain, again in zip(*found, strict=True):
        assert torch.allclose(plain, again, atol=1e-6)
    assert any(each.abs().max() > 1e-4 for each in found[1])
