"""Candidates of questions: which are right, which are drawn, how long they are."""

import logging

import numpy as np
import pytest
import torch

from dalm.config import RerankerTraining
from dalm.errors import UserError
from dalm.io.scored_tables import write_scored
from dalm.models import loading
from dalm.models.reranker import load_reranker
from dalm.records import Example, Passage, ScoredCandidate, ScoredQuestion
from dalm.training.data.labelled_candidates import (
    LabelledCandidates,
    of_pairs,
    of_scores,
    read_candidates,
)
from dalm.training.data.reranker_rows import RerankerRows

A, B, C, D = (Passage.of(text) for text in ("a a", "b", "c c c", "d"))
NONE = float("-inf")


def scored(query, scores, positive=None, negatives=(), temperature=None):
    candidates = tuple(ScoredCandidate(passage, score) for passage, score in scores)
    return ScoredQuestion(query, None, candidates, positive, negatives, temperature)


def settings(**options) -> RerankerTraining:
    return RerankerTraining(output_dir="out", **options)


@pytest.fixture(scope="module")
def reranker(tiny_models):
    return load_reranker(str(tiny_models.reranker), loading.place("cpu", "fp32"), max_length=32)


def test_pairs_are_right_and_their_negatives_wrong(caplog):
    examples = [Example("q", "x", A, (B, C)), Example("r", None, B)]
    assert of_pairs(examples, "binary") == [
        LabelledCandidates("q", ("a a", "b", "c c c"), (1.0, 0.0, 0.0))
    ]
    assert "1 of 2 questions are left out: they have no hard negatives" in caplog.text
    [of_softmax] = of_pairs(examples, "listwise")
    assert torch.tensor(of_softmax.labels).softmax(0).tolist() == [1, 0, 0]
    with pytest.raises(UserError, match=r"no question has hard negatives.*dalm mine-neg"):
        of_pairs(examples[1:], "binary")


def test_scores_are_labels_the_positive_first():
    question = scored("q", [(A, 2.0), (B, 1.5), (C, None)], positive=B, negatives=(C,))
    [listwise] = of_scores([question, scored("r", [(A, 1.0), (B, 1.0)])], "listwise")
    assert listwise == LabelledCandidates("q", ("b", "a a", "c c c"), (1.5, 2.0, NONE))
    [binary] = of_scores([question], "binary")
    assert binary == LabelledCandidates("q", ("b", "c c c"), (1.0, 0.0)), "A lies between"
    with pytest.raises(UserError, match="names no question's right passage"):
        of_scores([scored("q", [(A, 2.0), (B, 1.5)])], "binary")
    with pytest.raises(UserError, match="no question has candidates with different scores"):
        of_scores([scored("q", [(A, None), (B, None)])], "listwise")
    [one] = of_scores([scored("q", [(A, 2.0), (B, None)])], "listwise")
    assert one.labels == (2.0, NONE)


def test_a_table_says_what_it_trains_on(tmp_path):
    file = tmp_path / "scored.jsonl"
    write_scored(file, [scored("q", [(A, 2.0), (B, 1.0)], A, (B,))], "made up")
    table = read_candidates(str(file), settings())
    assert (table.kind, table.target_temperature) == ("listwise", "auto")
    assert table.questions[0].labels == (2.0, 1.0)
    pairs = read_candidates(str(file), settings(objective="binary"))
    assert (pairs.kind, pairs.target_temperature) == ("binary", None)
    assert pairs.questions[0].labels == (1.0, 0.0)
    for options, name in (
        ({"objective": "binary", "target_temperature": 2.0}, "--target-temperature 2.0"),
        ({"query_column": "Other"}, "--query-column"),
    ):
        with pytest.raises(UserError, match=f"{name} has no effect"):
            read_candidates(str(file), settings(**options))


def test_the_first_is_always_drawn_and_others_change_with_the_epoch(reranker):
    labels = (1.0, *[0.0] * 9)
    texts = tuple(f"text {number}" for number in range(10))
    rows = RerankerRows([LabelledCandidates("q", texts, labels)], reranker, num_candidates=4)
    seen = []
    for epoch in range(6):
        rows.set_epoch(epoch)
        drawn = rows.drawn(0).tolist()
        assert drawn == rows.drawn(0).tolist()
        assert drawn[0] == 0
        assert len(set(drawn)) == 4
        seen.append(tuple(drawn))
        batch = rows.collate([0])
        assert batch["candidates"] == [[texts[place] for place in drawn]]
        assert batch["labels"][0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert len(set(seen)) > 1
    assert rows.wrong_to_right() == 3.0


def test_lengths_are_what_the_model_reads(reranker, caplog):
    caplog.set_level(logging.INFO)
    texts = ("Ada lives in Ulm.", "Bela keeps two cats. " * 20)
    rows = RerankerRows(
        [LabelledCandidates("Where does Ada live?", texts, (1.0, 0.0))], reranker, num_candidates=8
    )
    plain = [
        len(reranker.model.tokenizer("Where does Ada live?", text).input_ids) for text in texts
    ]
    assert rows.whole[0].tolist() == plain
    assert rows.collate([0])["lengths"].tolist() == [plain[0], 32]
    assert rows.lengths().tolist() == [plain[0] + 32]
    rows.tell_cut()
    assert "1 of 2 questions with a passage are cut at 32 tokens; raise --max-length" in caplog.text


def test_scores_are_divided_by_the_temperature(reranker, caplog):
    caplog.set_level(logging.INFO)
    questions = of_scores([scored("q", [(A, 3.0), (B, 1.0), (C, None), (D, 0.0)])], "listwise")
    rows = RerankerRows(questions, reranker, num_candidates=8, target_temperature=2.0)
    assert rows.collate([0])["labels"][0].tolist() == [0.0, -1.0, NONE, -1.5]
    weights = np.exp([1.5, 0.5, 0.0]) / np.exp([1.5, 0.5, 0.0]).sum()
    assert f"{1 / (weights**2).sum():.2f} of 3 scored candidates carry it" in caplog.text
    by_itself = RerankerRows(questions, reranker, num_candidates=8, target_temperature="auto")
    target = by_itself.collate([0])["labels"][0].softmax(0)
    assert 1 / float(target.square().sum()) == pytest.approx(1.0, abs=0.01), "a third of three"


def test_a_teachers_own_temperature_is_taken_unless_one_is_given(reranker):
    questions = of_scores(
        [
            scored("q", [(A, 3.0), (B, 1.0)], temperature=4.0),
            scored("r", [(A, 3.0), (B, 1.0)], temperature=0.5),
        ],
        "listwise",
    )
    for given, expected in (("auto", [[0.0, -0.5], [0.0, -4.0]]), (2.0, [[0.0, -1.0]] * 2)):
        rows = RerankerRows(questions, reranker, num_candidates=8, target_temperature=given)
        assert [labels.tolist() for labels in rows.collate([0, 1])["labels"]] == expected


def test_only_differences_between_scores_count(reranker):
    """In fp32 scores about 1e9 would all be equal."""
    made = [
        LabelledCandidates("q", ("a", "b", "c"), (base + 2.0, base + 1.0, NONE))
        for base in (0.0, 1e9)
    ]
    rows = RerankerRows(made, reranker, num_candidates=3, target_temperature=0.5)
    near, far = (labels.softmax(0) for labels in rows.collate([0, 1])["labels"])
    assert torch.equal(near, far)
    assert far[0].item() == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-6)
