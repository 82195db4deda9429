from dataclasses import replace

import pytest

from dalm.errors import UserError
from dalm.eval.comparison import changes, compare, sentence
from dalm.eval.metrics import is_bound, label
from dalm.eval.significance import bootstrap_intervals, holm, sign_flip_ps
from tests.eval.example_results import BASE, TUNED, results


def test_lines_hold_what_the_statistics_say():
    recall, ndcg = compare(TUNED, BASE, seed=5)
    values, theirs = TUNED.measures["R@10"], BASE.measures["R@10"]
    assert (recall.measure, recall.mean, recall.count, ndcg.mean) == ("R@10", 0.625, 4, 0.3125)
    (interval,) = bootstrap_intervals([values], TUNED.groups, seed=5)
    assert recall.interval == pytest.approx(interval)
    gaps = [mine - other for mine, other in zip(values, theirs, strict=True)]
    (paired,) = bootstrap_intervals([gaps], TUNED.groups, seed=5)
    other = recall.against
    assert (other.baseline, other.difference, other.better, other.worse) == (0.25, 0.375, 2, 0)
    assert other.interval == pytest.approx(paired)
    assert [other.p] == sign_flip_ps([gaps], TUNED.groups, seed=5)
    assert [other.p_holm, ndcg.against.p_holm] == holm([other.p, ndcg.against.p])
    assert all(line.against is None for line in compare(TUNED))


def test_a_measure_the_baseline_lacks_stands_alone():
    base = replace(BASE, measures={"nDCG@10": BASE.measures["nDCG@10"]})
    recall, ndcg = compare(TUNED, base)
    assert recall.against is None
    assert ndcg.against.baseline == 0.125


def test_a_single_group_has_no_interval():
    (line, _) = compare(results(groups="aaaa"), results("base", (0, 0, 0.5, 0.5), "aaaa"))
    assert line.interval is line.against.interval is None
    assert line.against.p == 1
    assert "interval" not in sentence(line)


def test_queries_are_matched_by_their_ids():
    turned = replace(
        BASE,
        queries=BASE.queries[::-1],
        measures={name: column[::-1] for name, column in BASE.measures.items()},
    )
    assert compare(TUNED, turned, seed=5) == compare(TUNED, BASE, seed=5)


def test_other_queries_are_refused():
    fewer = results("short", (1.0, 0.0), ("a", "b"))
    with pytest.raises(UserError, match="tuned has 2 queries that short hasn't"):
        compare(TUNED, fewer)
    with pytest.raises(UserError, match="tuned has 2 queries that short hasn't"):
        compare(fewer, TUNED)


def test_a_query_without_a_value_is_left_out_of_its_measure_alone():
    mine, theirs = results(values=(1.0, None, 0.0, 0.5)), results("b", (0.5, 1.0, None, 0.5))
    (recall, _) = compare(mine, theirs, seed=1)
    assert (recall.mean, recall.count) == (0.5, 3)
    (interval,) = bootstrap_intervals([[1, 0, 0.5]], "abc", seed=1)
    assert recall.interval == pytest.approx(interval)
    other = recall.against
    assert (other.baseline, other.difference) == (0.5, 0.25)  # over the first and the last
    assert compare(results(values=(None,) * 4)) == []


def test_lower_is_better_for_nll():
    groups = tuple("abcdefgh")
    tuned = results(groups=groups, values=(0,) * 8, measures={"NLL": [1.0] * 8})
    base = results("base", groups=groups, values=(0,) * 8, measures={"NLL": [2.0] * 8})
    (line,) = compare(tuned, base)
    assert (line.verdict, line.against.better, line.against.difference) == ("better", 8, -1)
    assert sentence(line).startswith("NLL fell from 2.000 to 1.000")
    assert compare(base, tuned)[0].verdict == "worse"
    assert changes(tuned, base, "NLL")[0] == (0, 1.0)


def test_bounds_are_no_part_of_the_family():
    groups = tuple("abcdefgh")
    made = {"EM": [1.0] * 8, "EM[gold]": [1.0] * 8}
    tuned = results(groups=groups, values=(0,) * 8, measures=made)
    base = results("b", groups=groups, values=(0,) * 8, measures={n: [0.0] * 8 for n in made})
    answers, bound = compare(tuned, base)
    assert answers.against.p_holm == answers.against.p < 0.05
    assert bound.against.p_holm is None
    assert (answers.verdict, bound.verdict) == ("better", "even")
    assert (is_bound("EM[gold]"), label("EM[gold]")) == (True, "EM, gold passage")


def test_sentences():
    recall, _ = compare(TUNED, BASE, seed=5)
    assert sentence(recall).startswith("recall@10 is 0.625, baseline 0.250, not statistically sig")
    assert sentence(recall).endswith("better on 2 queries, worse on 0")
    same, _ = compare(TUNED, TUNED)
    assert sentence(same) == "recall@10 is 0.625 for both systems on every query"
    alone, _ = compare(TUNED, seed=5)
    low, high = alone.interval
    assert sentence(alone) == (
        f"recall@10 is 0.625 (95 % interval {low:.3f} to {high:.3f}) over 4 queries"
    )
    groups = tuple(map(str, range(20)))
    rose, _ = compare(
        results(groups=groups, values=(1.0,) * 19 + (0.0,)),
        results("b", groups=groups, values=(0.0,) * 19 + (1.0,)),
    )
    assert rose.verdict == "better"
    assert sentence(rose).startswith("recall@10 rose from 0.050 to 0.950 (95 % interval of the ")
    assert sentence(rose).endswith("better on 19 queries, worse on 1")


def test_changes_stand_worst_first():
    base = results("base", (0.5, 1.0, 1.0, None))
    assert changes(TUNED, base, "R@10") == [(1, -1.0), (2, 0.0), (0, 0.5)]
