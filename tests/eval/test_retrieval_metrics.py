import math

import ir_measures
import numpy as np
import pytest
import pytrec_eval

from dalm.errors import UserError
from dalm.eval.metrics import label, mean, means
from dalm.eval.retrieval_metrics import cutoff, in_rank_order, measure_retrieval, parse_measure
from dalm.records import Hit, Passage


def ranking(*scored):
    return [Hit(Passage(name, f"text of {name}"), score) for name, score in scored]


ABCD = ranking(("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.6))


def at(*ks):
    return [f"{family}@{k}" for family in ("R", "P", "Success", "RR", "nDCG") for k in ks]


def one(hits, relevant, k):
    values = measure_retrieval([hits], [relevant], at(k))
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
    values = measure_retrieval([[], ABCD], [{"a"}, {"a"}], at(1, 3))
    assert all(column[0] == 0 and column[1] > 0 for column in values.values())
    assert means(values)["R@1"] == 0.5
    assert set(measure_retrieval([[]], [{"a"}], ["RR@1"])["RR@1"]) == {0.0}
    assert measure_retrieval([], [], ["R@1"])["R@1"] == []


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
    values = measure_retrieval([ABCD, ABCD, ABCD[::-1]], [{"a"}, {"b"}, {"a"}], ["R@1"])
    assert values["R@1"] == [1.0, 0.0, 1.0]


def test_many_queries_keep_their_order():
    hits = [ABCD] * 25
    relevant = [{"abcd"[i % 4]} for i in range(25)]
    assert measure_retrieval(hits, relevant, ["RR@4"])["RR@4"] == pytest.approx(
        [1 / (i % 4 + 1) for i in range(25)]
    )


def test_a_query_that_nothing_is_relevant_to_has_no_value():
    values = measure_retrieval([ABCD, ABCD, ABCD], [{"a"}, set(), {"a": 0, "b": -1}], ["R@1", "AP"])
    assert values == {"R@1": [1.0, None, None], "AP": [1.0, None, None]}
    assert means(values) == {"R@1": 1.0, "AP": 1.0}
    assert math.isnan(mean([None]))


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="twice"):
        measure_retrieval([[*ABCD, ABCD[0]]], [{"a"}], ["R@1"])
    with pytest.raises(ValueError, match="not a number"):
        measure_retrieval([ranking(("a", math.nan))], [{"a"}], ["R@1"])
    with pytest.raises(ValueError, match="1 rankings"):
        measure_retrieval([ABCD], [], ["R@1"])


@pytest.mark.parametrize(
    ("text", "written", "words", "depth"),
    [
        ("nDCG@10", "nDCG@10", "nDCG@10", 10),
        ("ndcg@10", "nDCG@10", "nDCG@10", 10),
        ("R@5", "R@5", "recall@5", 5),
        ("recall@5", "R@5", "recall@5", 5),
        ("RR@10", "RR@10", "MRR@10", 10),
        ("mrr @ 10", "RR@10", "MRR@10", 10),
        ("RR", "RR", "MRR", None),
        ("Success@1", "Success@1", "hit rate@1", 1),
        ("hit rate@3", "Success@3", "hit rate@3", 3),
        ("P@1", "P@1", "precision@1", 1),
        ("AP", "AP", "MAP", None),
        ("MAP@100", "AP@100", "MAP@100", 100),
        ("Rprec", "Rprec", "R-precision", None),
        ("R(rel=2)@5", "R(rel=2)@5", "R(rel=2)@5", 5),
    ],
)
def test_a_measure_is_read_from_and_written_in_the_notation(text, written, words, depth):
    measure = parse_measure(text)
    assert (str(measure), cutoff(measure)) == (written, depth)
    assert label(str(measure)) == words
    assert parse_measure(str(measure)) == measure


@pytest.mark.parametrize(
    "text", ["", "foo@3", "R", "P", "R@0", "R@-1", "R@1.5", "nDCG@", "Rprec@3", "R(rel=x)@5", "@10"]
)
def test_what_is_no_measure_is_refused(text):
    with pytest.raises(UserError, match="measure"):
        parse_measure(text)


def test_grades_from_two_on():
    hits, grades = [ABCD], [{"a": 1, "b": 2}]
    assert measure_retrieval(hits, grades, ["R(rel=2)@1", "R(rel=2)@2", "R@1"]) == {
        "R(rel=2)@1": [0.0], "R(rel=2)@2": [1.0], "R@1": [0.5],
    }  # fmt: skip


TREC_NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "nDCG": "ndcg",
    "R@5": "recall_5",
    "P@5": "P_5",
    "Success@5": "success_5",
    "RR": "recip_rank",
    "AP": "map",
    "AP@10": "map_cut_10",
    "Rprec": "Rprec",
}


def test_a_thousand_random_runs_are_measured_as_trec_eval_does():
    random = np.random.default_rng(7)
    hits, grades = [], []
    for _ in range(1000):
        names = [f"d{number}" for number in random.choice(60, size=40, replace=False)]
        found = names[: random.integers(1, 40)]
        # Few different scores: most rankings hold ties, some of them across a cutoff.
        scores = random.integers(0, random.integers(1, 12), size=len(found)) / 8
        hits.append(ranking(*zip(found, scores.tolist(), strict=True)))
        judged = random.choice(names, size=random.integers(1, 15), replace=False)
        grades.append({str(name): int(random.integers(0, 4)) for name in judged})
        grades[-1][names[-1]] = 1  # one at least is relevant, and may not be found
    qrels = {str(place): each for place, each in enumerate(grades)}
    run = {str(p): {h.passage.id: h.score for h in found} for p, found in enumerate(hits)}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(TREC_NAMES.values())).evaluate(run)
    ours = measure_retrieval(hits, grades, list(TREC_NAMES))
    for measure, name in TREC_NAMES.items():
        expected = [theirs[str(place)][name] for place in range(1000)]
        assert ours[measure] == pytest.approx(expected, abs=1e-6), measure
