import math

import ir_measures
import pytest

from dalm.errors import UserError
from dalm.eval.measures import in_rank_order, in_words, means, measure_retrieval
from dalm.records import Hit, Passage


def ranking(*scored):
    return [Hit(Passage(name, f"text of {name}"), score) for name, score in scored]


ABCD = ranking(("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.6))


def one(hits, relevant, k):
    values = measure_retrieval([hits], [relevant], [k])
    return {measure: column[0] for measure, column in values.items()}


def test_two_relevant_at_ranks_2_and_4():
    assert one(ABCD, {"b", "d"}, 2) == pytest.approx(
        {
            "R@2": 1 / 2,
            "P@2": 1 / 2,
            "Success@2": 1,
            "RR@2": 1 / 2,
            "nDCG@2": (1 / math.log2(3)) / (1 + 1 / math.log2(3)),
        }
    )
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    assert one(ABCD, {"b", "d"}, 4) == pytest.approx(
        {
            "R@4": 1,
            "P@4": 1 / 2,
            "Success@4": 1,
            "RR@4": 1 / 2,
            "nDCG@4": gain / (1 + 1 / math.log2(3)),
        }
    )


def test_beyond_the_cutoff_is_nothing():
    assert one(ABCD, {"d"}, 3) == {"R@3": 0, "P@3": 0, "Success@3": 0, "RR@3": 0, "nDCG@3": 0}


def test_more_relevant_than_places():
    values = one(ABCD, {"a", "b", "x"}, 1)
    assert values == pytest.approx({"R@1": 1 / 3, "P@1": 1, "Success@1": 1, "RR@1": 1, "nDCG@1": 1})


def test_places_that_were_not_filled_are_irrelevant():
    assert one(ABCD[:1], {"a"}, 10) == pytest.approx(
        {"R@10": 1, "P@10": 1 / 10, "Success@10": 1, "RR@10": 1, "nDCG@10": 1}
    )


def test_grades_reach_ndcg():
    values = one(ABCD, {"a": 1, "b": 3, "c": 0}, 3)
    gain, best = 1 + 3 / math.log2(3), 3 + 1 / math.log2(3)
    assert values["nDCG@3"] == pytest.approx(gain / best)
    assert values["R@3"] == 1
    assert values["P@3"] == pytest.approx(2 / 3)


def test_a_query_without_hits_counts_as_nothing():
    values = measure_retrieval([[], ABCD], [{"a"}, {"a"}], [1, 3])
    assert all(column[0] == 0 and column[1] > 0 for column in values.values())
    assert means(values)["R@1"] == 0.5
    assert set(measure_retrieval([[]], [{"a"}], [1])["RR@1"]) == {0.0}
    assert measure_retrieval([], [], [1])["R@1"] == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_ties_are_broken_by_id_descending_in_every_measure(order):
    tied = ranking(("a", 0.5), ("b", 0.5), ("c", 0.1))
    hits = [tied[i] for i in order]
    assert [hit.passage.id for hit in in_rank_order(hits)] == ["b", "a", "c"]
    assert one(hits, {"a"}, 1) == {"R@1": 0, "P@1": 0, "Success@1": 0, "RR@1": 0, "nDCG@1": 0}
    assert one(hits, {"b"}, 1) == {"R@1": 1, "P@1": 1, "Success@1": 1, "RR@1": 1, "nDCG@1": 1}
    assert one(hits, {"a"}, 2)["RR@2"] == 0.5


def test_ties_in_single_precision_are_ties():
    near = ranking(("a", 1.0), ("b", 1.0 - 1e-12), ("A", 1.0))
    assert [hit.passage.id for hit in in_rank_order(near)] == ["b", "a", "A"]


def test_the_order_is_trec_evals_own():
    hits = ranking(
        ("x", 0.3), ("é", 0.5), ("z", 0.5), ("Z", 0.5), ("10", 0.5), ("9", 0.5), ("y", 0.7)
    )
    run = {"q": {hit.passage.id: hit.score for hit in hits}}
    for rank, hit in enumerate(in_rank_order(hits), start=1):
        qrels = {"q": {hit.passage.id: 1}}
        found = ir_measures.calc_aggregate([ir_measures.RR], qrels, run)[ir_measures.RR]
        assert found == pytest.approx(1 / rank)


def test_the_same_question_in_several_rows():
    values = measure_retrieval([ABCD, ABCD, ABCD[::-1]], [{"a"}, {"b"}, {"a"}], [1])
    assert values["R@1"] == [1.0, 0.0, 1.0]


def test_many_queries_keep_their_order():
    hits = [ABCD] * 25
    relevant = [{"abcd"[i % 4]} for i in range(25)]
    assert measure_retrieval(hits, relevant, [4])["RR@4"] == pytest.approx(
        [1 / (i % 4 + 1) for i in range(25)]
    )


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UserError, match=r"query 1 .* no relevant passage"):
        measure_retrieval([ABCD, ABCD], [{"a"}, set()], [1])
    with pytest.raises(UserError, match="no relevant passage"):
        measure_retrieval([ABCD], [{"a": 0}], [1])
    with pytest.raises(ValueError, match="twice"):
        measure_retrieval([[*ABCD, ABCD[0]]], [{"a"}], [1])
    with pytest.raises(ValueError, match="not a number"):
        measure_retrieval([ranking(("a", math.nan))], [{"a"}], [1])
    with pytest.raises(ValueError, match="1 rankings"):
        measure_retrieval([ABCD], [], [1])
    for ks in ([], [0], [3, -1]):
        with pytest.raises(ValueError, match="cutoffs"):
            measure_retrieval([ABCD], [{"a"}], ks)


def test_names():
    assert list(measure_retrieval([ABCD], [{"a"}], [10, 1, 10])) == [
        "R@1", "R@10", "P@1", "P@10", "Success@1", "Success@10", "RR@1", "RR@10",
        "nDCG@1", "nDCG@10",
    ]  # fmt: skip
    assert [in_words(name) for name in ("R@10", "P@1", "Success@5", "RR@10", "nDCG@3", "EM")] == [
        "recall@10", "precision@1", "hit rate@5", "MRR@10", "nDCG@3", "EM",
    ]  # fmt: skip
