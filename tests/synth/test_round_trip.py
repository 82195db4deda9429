import logging
from dataclasses import replace

import pytest

from dalm.synth.pairs import Pair
from dalm.synth.round_trip import FEW, log_difficulty, passages_near, round_trip, with_ranks
from tests.synth.pairs_of_ulm import BERN, PASSAGES, ULM, ranking


@pytest.mark.parametrize(
    ("searches", "k", "rank"),
    [
        ([ranking(0, 1)], 5, 1),
        ([ranking(1, 2, 0)], 5, 3),
        ([ranking(1, 2, 0)], 2, None),
        ([ranking(1, 2, 0), ranking(3, 0)], 2, 2),
        ([ranking(1), ranking()], 2, None),
    ],
)
def test_the_rank_is_the_best_over_all_searches(searches, k, rank):
    assert [found.rank for found in with_ranks([ULM], searches, k)] == [rank]


def test_other_passages_that_seem_to_answer_are_recorded():
    [found] = with_ranks([ULM], [ranking(3, 0), ranking(2, 1)], 4)
    assert found.also == (PASSAGES[2].id,), "the answer alone, or the question alone, is too little"
    [longer] = with_ranks([replace(ULM, answer="holds 12 bar green at Ulm pump")], [ranking(2)], 4)
    assert longer.also == (PASSAGES[2].id,), "of a long answer most words are enough"


def test_the_rank_of_bm25_is_kept_beside_the_best_one():
    [found] = with_ranks([ULM], [ranking(1, 2, 0), ranking(0)], 5)
    assert (found.rank, found.bm25_rank) == (1, 3)
    assert found.hard
    [found] = with_ranks([ULM], [ranking(0), ranking(1)], 5)
    assert (found.rank, found.bm25_rank, found.hard) == (1, 1, False)
    [found] = with_ranks([ULM], [ranking(1), ranking(0)], 5)
    assert (found.rank, found.bm25_rank, found.hard) == (1, None, True)


def test_without_a_round_trip_all_stay_and_have_their_rank():
    rejections = []
    found = round_trip([ULM, BERN], [ranking(0)], 0, rejections)
    assert [each.rank for each in found] == [1, None]
    assert not rejections
    found = round_trip([ULM, BERN], [ranking(1, 0)], 1, rejections)
    assert [each.query for each in found] == [BERN.query]
    assert rejections[0].reason == "its passage isn't among the best 1"


def unanswerable(query: str) -> Pair:
    return replace(ULM, query=query, answer="unanswerable", answer_type="unanswerable", quote="")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("Which company sold the green pump at Ulm?", None),
        ("What does the pump at Ulm hold?", "holds its words, and may answer it"),
        ("Which boiler valves are red in Bern?", "holds its words, and may answer it"),
        ("Which company sold the fountain of Graz?", "its passage is about something else"),
    ],
)
def test_an_unanswerable_query_is_near_its_passage_and_answered_by_none(query, reason):
    rejections = []
    passed = round_trip([unanswerable(query)], [ranking(1, 2, 3)], 20, rejections)
    assert len(passed) == (reason is None)
    if reason:
        assert rejections[0].filter == "answered nowhere"
        assert reason in rejections[0].reason


def test_a_judge_reads_what_an_unanswerable_query_finds():
    asked = unanswerable("Which company sold the pump at Ulm?")
    found = passages_near([ULM, asked], ranking(3, 1, 0, 2))
    assert found == {asked.query: [PASSAGES[3], PASSAGES[1], PASSAGES[0]]}


def test_bm25_alone_on_the_test_set_is_reported(caplog):
    caplog.set_level(logging.INFO)
    easy, second, lost = (replace(ULM, bm25_rank=rank) for rank in (1, 2, None))
    log_difficulty([easy] * 19 + [second], 20, are_test=True)
    assert "recall@1 0.950, recall@10 1.000 on the 20 test queries" in caplog.text
    assert "that --round-trip-k 20 let through" in caplog.text
    assert "95 % of the test queries' passages first: no retriever can show a gain" in caplog.text
    assert "1 test queries are hard" in caplog.text
    caplog.clear()
    log_difficulty([easy] * FEW + [second, lost] * (FEW // 2), 0, are_test=True)
    assert "recall@1 0.500, recall@10 0.750" in caplog.text
    assert "let through" not in caplog.text
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    caplog.clear()
    log_difficulty([unanswerable("Who?")], 20, are_test=True)
    assert not caplog.text
    log_difficulty([easy], 20, are_test=False)
    assert "100 % of the queries' passages first" in caplog.text
    assert "hard" not in caplog.text
