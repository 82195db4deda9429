from dataclasses import replace

import pytest

from dalm.errors import UserError
from dalm.eval.comparison import changes, compare
from dalm.eval.metrics import is_bounded, is_variant, label
from dalm.eval.sentences import counted, sentence
from dalm.eval.significance import detectable_differences, holm, mean_intervals, sign_flip_tests
from tests.eval.example_results import BASE, TUNED, results


def test_lines_hold_what_the_statistics_say():
    recall, ndcg = compare(TUNED, BASE, seed=5)
    values, theirs = TUNED.measures["R@10"], BASE.measures["R@10"]
    assert (recall.measure, recall.mean, recall.count, ndcg.mean) == ("R@10", 0.625, 4, 0.3125)
    (interval,) = mean_intervals([values], TUNED.groups, bounded=[True])
    assert recall.interval == pytest.approx(interval)
    gaps = [mine - other for mine, other in zip(values, theirs, strict=True)]
    (paired,) = sign_flip_tests([gaps], TUNED.groups, seed=5)
    other = recall.against
    assert (other.baseline, other.difference, other.better, other.worse) == (0.25, 0.375, 2, 0)
    assert (other.p, other.interval) == paired
    assert [other.p_holm, ndcg.against.p_holm] == holm([other.p, ndcg.against.p])
    assert (recall.count, recall.documents, other.count, other.documents) == (4, 3, 4, 3)
    assert all(line.against is None for line in compare(TUNED))


def test_enough_documents_have_an_interval_of_the_difference_and_its_power():
    mine, theirs = many((1.0,) * 15 + (0.0,) * 5), many((0.0,) * 10 + (1.0,) * 10)
    (line,) = compare(mine, theirs, seed=5)
    gaps = [[1.0] * 10 + [0.0] * 5 + [-1.0] * 5]
    assert line.against.interval == sign_flip_tests(gaps, range(20), seed=5)[0].interval
    assert [line.against.detectable] == pytest.approx(detectable_differences(gaps, range(20)))
    assert sentence(line).endswith(
        f"better on 10, worse on 5 of 20 queries, which could have shown a difference of "
        f"{line.against.detectable:.3f}"
    )


def many(values, **fields):
    """Results of as many queries, none of which names a document."""
    made = results(groups=("",) * len(values), values=values)
    return replace(made, measures={"R@10": list(values)}, **fields)


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
    (interval,) = mean_intervals([[1, 0, 0.5]], "abc", bounded=[True])
    assert recall.interval == pytest.approx(interval)
    other = recall.against
    assert (other.baseline, other.difference) == (0.5, 0.25)  # over the first and the last
    assert compare(results(values=(None,) * 4)) == []


def test_a_sentence_compares_the_same_queries():
    """Where one system has no value, as for the grounding of an empty answer, it isn't compared."""
    mine = many((1.0,) * 10 + (0.0,) * 10)
    (line,) = compare(mine, many((0.5,) * 10 + (None,) * 10))
    assert (line.mean, line.compared_mean, line.against.difference) == (0.5, 1.0, 0.5)
    assert sentence(line).startswith("recall@10 rose from 0.500 to 1.000 (")
    assert "of 10 queries" in sentence(line)


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
    assert (is_variant("EM[gold]"), label("EM[gold]")) == (True, "EM, gold passage")


def test_only_values_between_0_and_1_have_bounds():
    assert is_bounded("R@10", [0.0, 1.0])
    assert not is_bounded("NLL[gold]", [0.5])
    assert is_bounded("someone's", [0.5])
    assert not is_bounded("someone's", [1.5])


def test_a_significant_difference_is_one_whose_interval_excludes_0():
    losing, winning = many((0.0,) * 6 + (0.5,)), many((1.0,) * 6 + (0.5,))
    (line,) = compare(winning, losing)
    assert (line.against.p, line.verdict) == (1 / 32, "better")
    assert line.against.interval.low > 0
    assert compare(losing, winning)[0].against.interval.high < 0


def test_sentences():
    recall, _ = compare(TUNED, BASE, seed=5)
    assert sentence(recall) == (
        "recall@10 is 0.625, baseline 0.250, not statistically significant (adjusted p = 1.000); "
        "better on 2, worse on 0 of 4 queries of 3 documents, too few to show any difference (p is "
        "at least 0.25)"
    )
    same, _ = compare(TUNED, TUNED)
    assert sentence(same) == (
        "recall@10 is 0.625 for both systems on every query (4 queries of 3 documents)"
    )
    alone, _ = compare(TUNED, seed=5)
    low, high = alone.interval
    assert sentence(alone) == (
        f"recall@10 is 0.625 (95 % interval {low:.3f} to {high:.3f}) over 4 queries of 3 documents"
    )
    (rose,) = compare(many((1.0,) * 19 + (0.0,)), many((0.0,) * 19 + (1.0,)))
    assert rose.verdict == "better"
    assert sentence(rose).startswith("recall@10 rose from 0.050 to 0.950 (95 % interval of the ")
    assert sentence(rose).endswith("better on 19, worse on 1 of 20 queries")


def test_what_only_the_adjustment_takes_away_is_said():
    mine = many((1.0,) * 6 + (0.5,))
    made = {"R@1": [1.0] * 6 + [0.5], "R@5": [0.5] * 7, "R@10": [0.5] * 7}
    other = many(
        (0.0,) * 6 + (0.5,),
    )
    base = {"R@1": [0.0] * 6 + [0.5], "R@5": [0.5] * 7, "R@10": [0.5] * 7}
    line, *_ = compare(replace(mine, measures=made), replace(other, measures=base))
    assert (line.against.p, line.against.p_holm, line.verdict) == (1 / 32, 3 / 32, "even")
    assert "not statistically significant once adjusted for the number of" in sentence(line)


def test_queries_without_documents_count_for_themselves():
    (line,) = compare(many((0.5, 0.75)))
    assert (counted(line), line.documents) == ("2 queries", None)
    assert counted(compare(results(groups="a", values=(1.0,)))[0]) == "1 query of 1 document"


def test_changes_stand_worst_first():
    base = results("base", (0.5, 1.0, 1.0, None))
    assert changes(TUNED, base, "R@10") == [(1, -1.0), (2, 0.0), (0, 0.5)]
