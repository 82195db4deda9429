"""Rows of scored candidates: what is drawn, in which order, and what is no negative."""

import logging
from collections import Counter

import numpy as np
import pytest
import torch

from dalm.config import RetrieverOnly
from dalm.errors import UserError
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.records import NO_SCORE, Passage, ScoredCandidate, ScoredQuestion
from dalm.training.data.scored_rows import ScoredRows
from dalm.training.data.usable_rows import usable_questions

TEXTS = [
    f"{name} lives in {town}." for name in ("Ada", "Bela", "Cyrus") for town in ("Ulm", "Bern")
]
PASSAGES = list(map(Passage.of, TEXTS))
NONE = float("-inf")


@pytest.fixture(scope="module")
def retriever(tiny_models):
    return load_retriever(str(tiny_models.encoder), place("cpu", "fp32"))


def question(text, scores, positive=None, negatives=(), temperature=None):
    """Return a question whose candidates are passages by their number, best first."""
    order = sorted(scores, key=lambda n: -(NONE if scores[n] is None else scores[n]))
    return ScoredQuestion(
        text,
        "an answer",
        tuple(ScoredCandidate(PASSAGES[n], scores[n]) for n in order),
        None if positive is None else PASSAGES[positive],
        tuple(PASSAGES[n] for n in negatives),
        temperature,
    )


QUESTIONS = [
    question("Where does Ada live?", {0: 3.0, 1: 1.0, 2: 0.5, 3: None, 4: -2.0}, 0, (3, 4)),
    question("Who lives in Ulm?", {2: 2.0, 4: 1.5, 0: 0.0}, 2, (0,)),
    question("Who lives?", {5: 0.25, 1: 0.0}),
]


@pytest.fixture
def rows(retriever):
    return ScoredRows(
        QUESTIONS, retriever, num_candidates=3, target_temperature=1.0, contrasts=True, seed=1
    )


def passages_of(rows, batch):
    """Return the batch's passages as texts, in their order."""
    known = {tuple(tokens): n for n, tokens in enumerate(rows.base.tokens)}
    masks = batch["passage"]["attention_mask"].bool()
    found = zip(batch["passage"]["input_ids"], masks, strict=True)
    return [rows.base.passages[known[tuple(ids[mask].tolist())]].text for ids, mask in found]


def test_a_batch_has_the_candidates_with_their_scores(rows):
    batch = rows.collate([0, 1, 2])
    texts = passages_of(rows, batch)
    assert len(texts) == len(set(texts)), "each passage once"
    for row, question in enumerate(QUESTIONS):
        known = {c.passage.text: c.score for c in question.candidates}
        columns = batch["candidates"][row]
        columns = columns[columns >= 0].tolist()
        assert len(columns) == len(set(columns)) == min(3, len(known))
        assert texts[columns[0]] == question.candidates[0].passage.text, "the best one first"
        for column, score in zip(columns, batch["scores"][row].tolist(), strict=False):
            expected = known[texts[column]]
            assert score == (NO_SCORE if expected is None else expected)
    assert batch["candidates"][2].tolist()[2:] == [-1]
    assert batch["scores"][2].tolist()[2:] == [NO_SCORE]


def test_others_are_drawn_anew_in_each_epoch_and_alike_in_the_same_one(rows):
    def drawn(epoch):
        rows.set_epoch(epoch)
        return rows.drawn(0).tolist()

    epochs = [drawn(epoch) for epoch in range(60)]
    assert epochs == [drawn(epoch) for epoch in range(60)]
    counts = Counter(n for each in epochs for n in each)
    assert counts[0] == 60, "the best one is always there"
    assert all(15 < counts[n] < 45 for n in range(1, 5)), counts  # 30 expected
    assert all(each == sorted(each) and len(set(each)) == 3 for each in epochs)
    assert [rows.drawn(row).tolist() for row in (1, 2)] == [[0, 1, 2], [0, 1]]


def test_what_is_drawn_does_not_depend_on_the_batch(rows):
    alone, together = rows.collate([0]), rows.collate([2, 0, 1])
    assert torch.equal(alone["scores"][0], together["scores"][1])


def test_the_positive_is_first_even_if_it_does_not_score_best(retriever):
    odd = question("Where?", {0: 3.0, 1: 1.0, 2: 0.5}, positive=1)
    rows = ScoredRows([odd], retriever, num_candidates=3)
    assert rows.scores[0].tolist() == [1.0, 3.0, 0.5]
    assert rows.candidates[0][0] == rows.gold[0]


def test_an_equal_text_is_one_candidate(retriever):
    candidates = (
        ScoredCandidate(PASSAGES[0], 2.0),
        ScoredCandidate(PASSAGES[1], 1.0),
        ScoredCandidate(Passage.of(TEXTS[0].upper()), 0.0),
    )
    rows = ScoredRows([ScoredQuestion("Where?", None, candidates)], retriever, num_candidates=3)
    assert rows.scores[0].tolist() == [2.0, 1.0]


def test_candidates_without_a_score_can_be_left_out(retriever):
    rows = ScoredRows(QUESTIONS, retriever, num_candidates=9, scored_only=True)
    assert rows.scores[0].tolist() == [3.0, 1.0, 0.5, -2.0]
    assert PASSAGES[3] in rows.base.passages


def negatives(rows, batch):
    """Return which passages are negatives of each question, and questions of each passage."""
    count = len(batch["candidates"])
    texts = passages_of(rows, batch)
    golds = [texts[column] for column in batch["candidates"][:, 0].tolist()]
    columns = golds + texts
    marked = batch["false_negatives"]
    known = batch["known"].tolist()
    by_query = [
        Counter(
            columns[c]
            for c in range(len(columns))
            if not marked["by_query"][row, c] and c != row and (c >= count or known[c])
        )
        for row in range(count)
    ]
    by_passage = [
        [q for q in range(count) if not marked["by_passage"][row, q] and known[q] and q != row]
        for row in range(count)
    ]
    return by_query, by_passage


def test_what_is_a_negative_of_what(retriever):
    rows = ScoredRows(QUESTIONS, retriever, num_candidates=9, contrasts=True)
    batch = rows.collate([0, 1, 2])
    assert batch["known"].tolist() == [True, True, False]
    by_query, by_passage = negatives(rows, batch)
    # Of question 0 the teacher puts 3 and 4 clearly below; 1 and 2 it doesn't; 5 is another's.
    assert by_query[0] == Counter(TEXTS[n] for n in (3, 4, 5)), "each once"
    # Of question 1 passage 4 scores near the positive; all that others have are negatives.
    assert by_query[1] == Counter(TEXTS[n] for n in (0, 1, 3, 5))
    # Passage 0 is clearly below question 1's positive; 2 isn't clearly below question 0's.
    assert by_passage[:2] == [[1], []]


def test_a_positive_of_the_same_question_is_no_negative(retriever):
    again = question("WHERE does Ada live?", {1: 1.0, 3: 0.0}, 1, (3,))
    rows = ScoredRows([QUESTIONS[0], again], retriever, num_candidates=9, contrasts=True)
    by_query, by_passage = negatives(rows, rows.collate([0, 1]))
    assert by_query == [Counter(TEXTS[n] for n in each) for each in ((3, 4), (2, 3, 4))]
    assert by_passage == [[], []]


def test_rows_are_as_long_as_what_is_drawn_of_them(rows):
    lengths = rows.base.tokens.lengths
    of_queries = rows.query_tokens.lengths
    means = [lengths[each].mean() for each in rows.candidates]
    expected = [n * mean for n, mean in zip((3, 3, 2), means, strict=True)]
    assert rows.lengths().tolist() == pytest.approx((of_queries + expected).tolist(), abs=0.5)


# The target's temperature


def temperatures(retriever, questions, given, caplog, most=9):
    with caplog.at_level(logging.INFO):
        rows = ScoredRows(questions, retriever, num_candidates=most, target_temperature=given)
    [line] = [said for said in caplog.messages if said.startswith("target ")]
    return rows, line


def test_a_temperature_that_is_given_is_everyones(retriever, caplog):
    rows, line = temperatures(retriever, QUESTIONS, 0.5, caplog)
    assert rows.temperatures.tolist() == [0.5] * 3
    weights = [np.exp(2 * scores) / np.exp(2 * scores).sum() for scores in rows.scores]
    expected = np.mean([1 / (each**2).sum() for each in weights])
    assert line == (
        f"target     {expected:.2f} of 3 candidates carry it on average, at temperature 0.5 "
        "(--target-temperature)"
    )


def test_auto_is_what_the_table_says(retriever, caplog):
    questions = [question("Who?", {0: 1.0, 1: 0.0, 2: 0.0}, temperature=0.1)] * 2
    rows, line = temperatures(retriever, questions, "auto", caplog)
    assert rows.temperatures.tolist() == [0.1, 0.1]
    assert "1.00 of 3 candidates" in line
    assert "at temperature 0.1 (the teacher's)" in line


def test_auto_without_one_is_a_third_of_the_candidates_on_average(retriever, caplog):
    random = np.random.default_rng(0)
    questions = [
        question(f"Who {n}?", dict(enumerate(random.normal(size=6).tolist()))) for n in range(20)
    ]
    rows, line = temperatures(retriever, questions, "auto", caplog)
    assert len(set(rows.temperatures)) == 1
    assert "2.00 of 6 candidates" in line
    caplog.clear()
    larger = [
        question(q.query, {PASSAGES.index(c.passage): 7 * c.score for c in q.candidates})
        for q in questions
    ]
    scaled, _ = temperatures(retriever, larger, "auto", caplog)
    assert scaled.temperatures[0] == pytest.approx(7 * rows.temperatures[0], rel=1e-6)


def test_rows_of_several_teachers_keep_their_own(retriever, caplog):
    given = [question("Who?", {0: 1.0, 1: 0.0}, temperature=0.1), QUESTIONS[0]]
    rows, line = temperatures(retriever, given, "auto", caplog)
    assert rows.temperatures[0] == 0.1
    assert rows.temperatures[1] != 0.1
    assert " to " in line


# Rows that teach nothing


def usable(questions, *, margins=False, **options):
    settings = RetrieverOnly(output_dir="out", objective="listwise", **options)
    return usable_questions(questions, settings, margins=margins)


NOTHING = [
    question("All alike?", {0: 0.0, 1: 0.0, 2: 0.0}),
    question("None?", {0: None, 1: None}),
    question("One candidate?", {0: 1.0}),
    ScoredQuestion("No candidate?", None, ()),
]
ONE_LEFT = question("One left?", {0: 1.0, 1: None})


def test_questions_whose_candidates_are_not_told_apart_are_counted_and_left_out(caplog):
    with caplog.at_level(logging.INFO):
        assert usable([*NOTHING, ONE_LEFT, *QUESTIONS]) == [ONE_LEFT, *QUESTIONS]
    assert "4 of 8 questions left out: their candidates have no scores, or all the same" in (
        caplog.text
    )
    assert "names a positive for 2 of 4 questions" in caplog.text


def test_a_margin_needs_two_scores(caplog):
    assert usable([*NOTHING, ONE_LEFT, *QUESTIONS], margins=True) == QUESTIONS
    assert "5 of 8 questions left out" in caplog.text
    with pytest.raises(UserError, match=r"no question .* of 1 questions; use --objective listwise"):
        usable([ONE_LEFT], margins=True)


def test_a_table_that_teaches_nothing_is_refused():
    with pytest.raises(UserError, match=r"different scores, of 4 questions; choose another --teac"):
        usable(NOTHING)


def test_a_contrast_that_was_asked_for_needs_positives():
    with pytest.raises(UserError, match=r"--contrastive-weight .*names no positive; leave it out"):
        usable([QUESTIONS[2]], contrastive_weight=0.5)
    assert usable([QUESTIONS[2]]) == [QUESTIONS[2]]
    assert usable(QUESTIONS, contrastive_weight=0.5) == QUESTIONS
