from dataclasses import replace

import pytest

from dalm.eval.metrics import means
from dalm.eval.report.charts import depth_of, rank_fractions, recall_over_k, training_curves
from dalm.eval.retrieval_metrics import measure_retrieval
from dalm.records import Hit, JudgedQuery, Passage
from tests.eval.example_results import results

PASSAGES = [Passage(f"p{i}", f"text {i}") for i in range(12)]


def ranked(*orders, relevant=({"p0": 1}, {"p1": 2, "p2": 1}, {}, {"p3": 1})):
    queries = [
        JudgedQuery(id=f"q{i}", query=f"question {i}", relevant=each, group=f"d{i % 3}")
        for i, each in enumerate(relevant)
    ]
    hits = [[Hit(PASSAGES[p], 1 - rank / 20) for rank, p in enumerate(order)] for order in orders]
    return replace(results(groups="abcd"), queries=queries, hits=hits, answers={})


@pytest.fixture
def found():
    return ranked((5, 0, 6), (1, 7, 2, 8), (9,), (4, 5))


def test_recall_over_k_is_the_measure_at_every_k(found):
    curve = recall_over_k(found, depth_of([found]))
    assert curve.xs == [1, 2, 3, 4]
    relevant = [query.relevant for query in found.queries]
    taken = means(measure_retrieval(found.hits, relevant, [f"R@{k}" for k in curve.xs]))
    assert curve.ys == pytest.approx(list(taken.values()))
    assert curve.ys == pytest.approx([1 / 6, 1 / 2, 2 / 3, 2 / 3])


def test_the_band_encloses_the_curve(found):
    curve = recall_over_k(found, 4, with_band=True)
    assert len(curve.band) == 4
    assert all(band.low <= y <= band.high for y, band in zip(curve.ys, curve.band, strict=True))
    assert not recall_over_k(replace(found, queries=found.queries), 4).band


def test_nothing_judged_is_no_curve(found):
    unjudged = ranked(*[(1, 2)] * 4, relevant=({}, {}, {}, {}))
    assert recall_over_k(unjudged, 2, with_band=True).xs == []


def test_every_judged_query_is_counted_at_one_rank(found):
    assert rank_fractions(found, 4) == pytest.approx(
        {"1": 1 / 3, "2": 1 / 3, "3": 0, "4": 0, "none": 1 / 3}
    )
    many = ranked(range(12), range(12)[::-1], (9,), (3,))
    shares = rank_fractions(many, 12)
    assert list(shares) == ["1", "2", "3", "4–5", "6–10", "11–12", "none"]
    assert [shares[name] for name in ("1", "6–10")] == pytest.approx([2 / 3, 1 / 3])


def test_long_rankings_are_counted_more_coarsely(found):
    assert list(rank_fractions(found, 250)) == [
        "1",
        "2–3",
        "4–10",
        "11–30",
        "31–100",
        "101–250",
        "none",
    ]


def test_what_moved_in_training_is_drawn_the_loss_first():
    lines = [
        {"step": s, "info_nce": 1 / s, "loss": 2 / s, "constant": 3, "learning_rate": s, "epoch": s}
        for s in (1, 2, 3)
    ]
    lines[1] |= {"gap": 0.5, "name": "text", "broken": float("nan")}
    lines[2] |= {"gap": 0.7, "broken": float("nan")}
    curves = training_curves(lines)
    assert [curve.name for curve in curves] == ["loss", "info_nce", "gap"]
    assert (curves[0].xs, curves[0].ys) == ((1, 2, 3), (2.0, 1.0, 2 / 3))
    assert (curves[2].xs, curves[2].ys) == ((2, 3), (0.5, 0.7))
    assert training_curves([]) == []


def test_a_loss_that_is_its_only_part_is_drawn_once():
    lines = [{"step": s, "loss": 1 / s, "info_nce": 1 / s * (1 + 1e-7)} for s in (1, 2, 3)]
    assert [curve.name for curve in training_curves(lines)] == ["loss"]
    lines[2]["info_nce"] = 0.5
    assert [curve.name for curve in training_curves(lines)] == ["loss", "info_nce"]
