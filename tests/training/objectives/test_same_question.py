"""Joint training on rows with the same question: its other gold passages are no negatives."""

import pytest
import torch
import torch.nn.functional as F

from dalm.records import Example, Passage
from dalm.retrieval.training_index import TrainingIndex
from dalm.training.data.batches import Rows
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.objectives.contrastive import contrast, embed_pairs
from dalm.training.objectives.dalm_loss import DalmObjective
from dalm.training.objectives.index_candidates import IndexCandidates
from dalm.training.objectives.objective import objective_class
from dalm.training.scoring import answer_mask, candidate_prompts, score_no_grad

INF = float("inf")
ALL = range(5)


@pytest.fixture
def same(examples):
    """Rows 0, 2 and 4 ask one question; 0 and 4 have one answer, 2 another."""
    asked = ["Where?", examples[1].query, " WHERE? ", examples[3].query, "Where?"]
    answers = ["red", "tam", "nine bars", "red", "Red "]
    return [
        Example(query, answer, example.passage)
        for query, answer, example in zip(asked, answers, examples, strict=True)
    ]


@pytest.fixture
def batch(models, same):
    return Rows(same, *models).collate(ALL)


def cosines(models, batch):
    with torch.no_grad():
        queries = models[0].embed(batch["query"], "query")
        return queries @ models[0].embed(batch["passage"], "passage").T


def without_other_golds(scores):
    """Columns 0, 2 and 4 are gold for the rows 0, 2 and 4, and each row's own stays."""
    scores = scores.clone()
    for row in (0, 2, 4):
        for column in {0, 2, 4} - {row}:
            scores[row, column] = -INF
    return scores


def test_the_contrast_is_with_passages_of_other_questions(models, batch):
    scores = without_other_golds(20 * cosines(models, batch))
    own = torch.arange(5)
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    found = contrast(embed_pairs(models[0], batch), 20.0)["info_nce"]
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_original_toolkits_loss_takes_them_for_no_negatives(models, batch):
    """−log softmax(s)[gold] of its second term as well as the contrast."""
    objective = DalmObjective(*models, scale=20.0).eval()
    loss = objective(batch)
    scores = without_other_golds(20 * cosines(models, batch))
    own, tokens = torch.arange(5), objective.weighted_tokens(batch)
    lengths = torch.tensor(batch["pieces"].answer_lengths())
    log_gold = scores.log_softmax(1).diagonal()
    info_nce = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    retrieval = info_nce - (lengths * log_gold).sum() / tokens
    # What is left doesn't depend on the retriever: the prompts' and answers' own loss.
    unmasked = dict(batch)
    unmasked["false_negatives"] = {
        name: torch.zeros_like(mask) for name, mask in batch["false_negatives"].items()
    }
    every = 20 * cosines(models, batch)
    among_all = (F.cross_entropy(every, own) + F.cross_entropy(every.T, own)) / 2
    among_all = among_all - (lengths * every.log_softmax(1).diagonal()).sum() / tokens
    difference = (objective(unmasked).total - loss.total).item()
    assert difference == pytest.approx((among_all - retrieval).item(), abs=1e-10)
    assert difference > 0.1


def candidates_of(objective, batch, passages):
    """Return the places, among some passages, of each query's candidates."""
    found = objective.source(batch)
    return [[passages.index(candidate) for candidate in row] for row in found.passages], found


def test_a_candidate_of_the_batch_is_no_gold_passage_of_another_answer(models, in_batch, batch):
    objective = in_batch("rag_token", num_candidates=9)
    chosen, found = candidates_of(objective, batch, batch["pieces"].passages)
    # Rows 1 and 3 could have five, but all have as many as row 2, whose question has two other
    # gold passages, both with another answer. Row 0 has that of row 4, which has its answer.
    assert [set(row) for row in chosen][2] == {2, 1, 3}
    assert {len(row) for row in chosen} == {3}
    assert [row[0] for row in chosen] == [0, 1, 2, 3, 4]
    assert 2 not in chosen[0] + chosen[4]
    scores = cosines(models, batch) / 0.1
    scores[0, 2] = scores[4, 2] = scores[2, 0] = scores[2, 4] = -INF
    prior = scores.gather(1, torch.tensor(chosen)).log_softmax(1)
    torch.testing.assert_close(found.log_prior.detach(), prior, rtol=0, atol=1e-12)
    best = scores.scatter(1, torch.arange(5)[:, None], INF).topk(3, dim=1).indices
    assert chosen == best.tolist()


@pytest.mark.parametrize("joint", ["rag_token", "rag_sequence", "pdist", "lsr", "emdr2"])
def test_the_joint_loss_is_over_these_candidates(models, in_batch, batch, joint):
    """By the formula of each objective, over the candidates of the test above."""
    objective = in_batch(joint, num_candidates=9, target_temperature=0.5).eval()
    chosen, found = candidates_of(objective, batch, batch["pieces"].passages)
    pieces = batch["pieces"]
    prompts = [[pieces.passages[place]] for row in chosen for place in row]
    scored = score_no_grad(models[1], candidate_prompts(models[1], pieces, prompts), 3)
    lengths = torch.tensor(pieces.answer_lengths())
    mask = answer_mask(lengths)[:, None, :]
    prior, summed = found.log_prior.detach(), (scored * mask).sum(-1)
    if joint == "rag_sequence":
        expected = -(prior + summed).logsumexp(1).sum() / lengths.sum()
    elif joint in ("rag_token", "emdr2"):
        mixed = (prior[:, :, None] + scored).logsumexp(1)
        expected = -(mixed * mask[:, 0]).sum() / lengths.sum()
    else:
        mean = summed / lengths[:, None]
        target = ((mean if joint == "pdist" else mean.exp()) / 0.5).log_softmax(1)
        expected = (target.exp() * (target - prior)).sum(1).mean()
    assert objective(batch).parts[joint].item() == pytest.approx(expected.item(), abs=1e-10)


def over_an_index(models, same, joint="rag_token", **options):
    rows = RetrievedRows(same, *models)
    index = TrainingIndex(len(rows.base), rows.base.identity(), torch.device("cpu"))
    source = IndexCandidates(
        models[0], rows.base, index, num_candidates=9, temperature=0.1, **options
    )
    objective = objective_class(joint)(*models, source, scale=20.0)
    objective.begin_update(0.0)
    return objective, rows


@pytest.mark.parametrize("probability", [1.0, 0.0])
def test_a_searched_candidate_is_no_gold_passage_of_another_answer(models, same, probability):
    objective, rows = over_an_index(models, same)
    rows.gold_probability = probability
    base = [rows.base.pieces[place].tolist() for place in range(5)]
    chosen, _ = candidates_of(objective, rows.collate(ALL), base)
    assert set(chosen[2]) == {1, 2, 3}
    assert {len(row) for row in chosen} == {3}
    assert 2 not in chosen[0] + chosen[4]


def test_the_search_is_deeper_by_what_can_be_no_candidate(models, same):
    """Of two candidates none is lost to the gold passages of other answers, however near."""
    more = [Passage.of("Tam is kept in jars of clay."), Passage.of("Twice nine is eighteen.")]
    rows = RetrievedRows(same, *models, more=more)
    batch = rows.collate([2])
    index = TrainingIndex(len(rows.base), "", torch.device("cpu"))
    query = models[0].embed(batch["query"], "query").detach()
    far = torch.roll(query, 1, dims=1)
    # Nearest are passages 0, 4 and 2: gold for the question of row 2, but for 2 with its answer.
    nearness = torch.tensor([0.99, 0.3, 0.97, 0.2, 0.98, 0.5, 0.1]).double()[:, None]
    index.vectors = nearness * query + (1 - nearness) * far
    source = IndexCandidates(models[0], rows.base, index, num_candidates=3, temperature=0.1)
    found = source._search(query, 3, batch)
    assert found.tolist() == [[2, 5, 1]]
    assert batch["most_other_golds"] == 2


def test_the_contrast_over_an_index_is_with_passages_of_other_questions(models, same, batch):
    objective, rows = over_an_index(models, same)
    found = objective.eval()(rows.collate(ALL)).parts["info_nce"].item()
    expected = contrast(embed_pairs(models[0], batch), 20.0)["info_nce"].item()
    assert found == pytest.approx(expected, abs=1e-10)


def test_a_row_without_gold_passage_knows_those_of_its_question(models, same):
    """It has no part in the contrast, and none of their passages is held against its answer."""
    rows = RetrievedRows([*same, Example("Where?", "not near water at all")], *models)
    batch = rows.collate([5, 1])
    assert batch["gold"].tolist() == [-1, 1]
    assert [places.tolist() for places in batch["other_golds"]] == [[0, 2, 4], []]
    assert not batch["false_negatives"]["by_query"].any()


def test_the_diagnostic_rows_ask_different_questions(models, same):
    rows = Rows(same, *models)
    assert rows.diagnostic_batch(16)["query"]["input_ids"].shape[0] == 3
    assert rows._diagnostic_rows(16) == [0, 1, 3]
