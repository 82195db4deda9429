from dataclasses import replace

import pytest

from dalm.config import EvalRag, EvalRetriever
from dalm.errors import UserError
from dalm.eval.comparison import compare
from dalm.eval.quality_gates import (
    Gate,
    GateError,
    check_thresholds,
    enforce_gates,
    evaluation_gates,
    guard_gates,
    measured_columns,
    parse_thresholds,
    regression_gate,
    threshold_gates,
)
from tests.eval.example_results import BASE, TUNED, results

ANSWERS = EvalRag(evaluate_generator=True)


def test_thresholds_are_read_in_any_notation():
    assert parse_thresholds(["R@10=0.8", "mrr@5=.4", "EM=1"]) == {"R@10": 0.8, "RR@5": 0.4, "EM": 1}
    assert parse_thresholds(None) == {}


def test_a_measure_has_one_threshold():
    with pytest.raises(UserError, match="R@10 has a threshold already"):
        parse_thresholds(["R@10=0.8", "recall@10=0.9"])


@pytest.mark.parametrize("text", ["R@10", "R@10=", "R@10=high", "R@10=nan", "0.8"])
def test_what_is_no_threshold_is_refused(text):
    with pytest.raises(UserError, match="--fail-below"):
        parse_thresholds([text])


def test_a_mean_is_held_to_its_least():
    lines = compare(TUNED)
    passed, failed = (threshold_gates(lines, {"R@10": bound})[0] for bound in (0.625, 0.626))
    assert (passed.passed, failed.passed) == (True, False)
    assert failed.text == "recall@10 is 0.625 over 4 queries of 3 documents (minimum 0.626)"
    (missing,) = threshold_gates(lines, {"abstention": 0.1})
    assert not missing.passed
    assert missing.text == "abstention was not measured (minimum 0.1)"


@pytest.mark.parametrize(
    ("threshold", "config"),
    [
        ("R@5=1", EvalRetriever()),
        ("EM=1", EvalRetriever()),
        ("EM=1", EvalRag()),
        ("R@10[reranked]=1", EvalRetriever()),
        ("R@10[fused]=1", EvalRetriever(search_index="index")),
        ("nonsense=1", ANSWERS),
        ("correctness=1", ANSWERS),
        ("citation recall=1", ANSWERS),
        ("EM[gold]=1", replace(ANSWERS, bounds=False)),
        ("NLL=1", replace(ANSWERS, generator_url="http://localhost")),
        ("preference=1", replace(ANSWERS, judge="http://localhost")),
    ],
)
def test_a_threshold_on_what_will_not_be_measured_is_refused(threshold, config):
    thresholds = parse_thresholds([threshold])
    with pytest.raises(UserError, match="not measured; measured are nDCG@10, R@10"):
        check_thresholds(thresholds, measured_columns(config, ["nDCG@10", "R@10"]))


@pytest.mark.parametrize(
    ("threshold", "config"),
    [
        ("recall@10[fused]=1", EvalRetriever()),
        ("Success@1[BM25]=1", EvalRetriever()),
        ("R@10[reranked]=1", EvalRetriever(reranker="x")),
        ("em=1", ANSWERS),
        ("nll[gold]=1", ANSWERS),
        ("abstention=1", ANSWERS),
        ("citation recall=1", replace(ANSWERS, citations=True)),
        ("preference=1", replace(ANSWERS, judge="http://localhost", baseline="x")),
    ],
)
def test_a_threshold_on_any_column_is_taken(threshold, config):
    thresholds = parse_thresholds([threshold])
    check_thresholds(thresholds, measured_columns(config, ["nDCG@10", "R@10"]))


def test_nll_is_held_to_its_most():
    lines = compare(results(measures={"NLL": [2.0] * 4}))
    assert threshold_gates(lines, {"NLL": 2.0})[0].passed
    assert (
        threshold_gates(lines, {"NLL": 2.0})[0].text
        == "NLL is 2.000 over 4 queries of 3 documents (maximum 2)"
    )
    assert not threshold_gates(lines, {"NLL": 1.9})[0].passed


def test_a_regression_is_a_fall_beyond_chance():
    groups = tuple(map(str, range(20)))
    low = results(groups=groups, values=(0.0,) * 19 + (1.0,))
    high = results("b", groups=groups, values=(1.0,) * 19 + (0.0,))
    fell = regression_gate(compare(low, high))
    assert not fell.passed
    assert "recall@10 fell from 0.950 to 0.050" in fell.text
    assert regression_gate(compare(high, low)).passed
    few = regression_gate(compare(BASE, TUNED))
    assert few.passed
    assert few.text == (
        "no measure is significantly worse over 4 queries of 3 documents, too few to show any "
        "difference (p is at least 0.25)"
    )


def test_nothing_compared_is_no_proof():
    mine, other = results(measures={"R@5": [1.0] * 4}), results("b", measures={"R@10": [1.0] * 4})
    gate = regression_gate(compare(mine, other))
    assert (gate.passed, gate.text.split(":")[0]) == (False, "no measure is compared")


def test_the_guard_may_fall_by_its_margin():
    fell, rose = compare(BASE, TUNED), compare(TUNED, BASE)
    assert [gate.passed for gate in guard_gates(fell, "general", 0.374)] == [False]
    (gate,) = guard_gates(fell, "general", 0.376)
    assert gate.passed
    assert gate.text == (
        "guard general: recall@10 fell from 0.625 to 0.250 over 4 queries of 3 documents (allowed "
        "drop 0.376)"
    )
    assert [gate.passed for gate in guard_gates(rose, "general", 0)] == [True]


def test_the_guard_checks_the_first_measure_and_f1():
    made = {"R@1": [1.0] * 4, "R@5": [1.0] * 4, "EM": [0.0] * 4, "F1": [0.0] * 4}
    both = results(measures=made), results("base", measures=made)
    assert [g.text.split(":")[1][:11] for g in guard_gates(compare(*both), "x", 0)] == [
        " recall@1 f",
        " F1 fell fr",
    ]
    assert guard_gates(compare(both[0]), "x", 0) == []


def test_guards_decide_only_with_fail_on_regression():
    fell = compare(BASE, TUNED)
    for decides in (False, True):
        config = EvalRetriever(
            retriever_name_or_path="x", fail_below=["R@10=0.1"], fail_on_regression=decides
        )
        gates = evaluation_gates(fell, {"general": fell}, config)
        assert [gate.decides for gate in gates] == (
            [True, True, True] if decides else [True, False]
        )
        assert [gate.passed for gate in gates] == (
            [True, True, False] if decides else [True, False]
        )


def test_a_failed_gate_fails_the_command_if_it_decides():
    enforce_gates([Gate("a", True), Gate("b", False, decides=False)])
    with pytest.raises(GateError, match="1 of 2 gates failed"):
        enforce_gates([Gate("a", True), Gate("b", False)])
