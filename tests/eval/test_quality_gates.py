import pytest

from dalm.errors import UserError
from dalm.eval.comparison import compare
from dalm.eval.quality_gates import (
    check_thresholds,
    guard_gate,
    regression_gate,
    threshold_gates,
    thresholds_of,
)
from tests.eval.example_results import BASE, TUNED, results


def test_thresholds_are_read_in_any_notation():
    assert thresholds_of(["R@10=0.8", "mrr@5=.4", "EM=1"]) == {"R@10": 0.8, "RR@5": 0.4, "EM": 1}
    assert thresholds_of(None) == {}


@pytest.mark.parametrize("text", ["R@10", "R@10=", "R@10=high", "R@10=nan", "0.8"])
def test_what_is_no_threshold_is_refused(text):
    with pytest.raises(UserError, match="--fail-below"):
        thresholds_of([text])


def test_a_mean_is_held_to_its_least():
    lines = compare(TUNED)
    passed, failed = (threshold_gates(lines, {"R@10": bound})[0] for bound in (0.625, 0.626))
    assert (passed.passed, failed.passed) == (True, False)
    assert failed.text == "recall@10 is 0.625; it has to be at least 0.626"
    (missing,) = threshold_gates(lines, {"abstention": 0.1})
    assert not missing.passed
    assert missing.text == "abstention was not measured; it has to be at least 0.1"


@pytest.mark.parametrize(
    ("measure", "answers", "refused"),
    [
        *(("R@5", True, True), ("EM", False, True), ("nonsense", False, True)),
        *(("R@10", False, False), ("EM", True, False), ("abstention", True, False)),
    ],
)
def test_a_threshold_on_what_will_not_be_measured_is_refused(measure, answers, refused):
    measured = ["nDCG@10", "R@10"]
    if not refused:
        check_thresholds({measure: 0.1}, measured, answers=answers)
        return
    with pytest.raises(UserError, match=f"{measure}: not measured; measured are nDCG@10, R@10"):
        check_thresholds({measure: 0.1}, measured, answers=answers)


def test_nll_is_held_to_its_most():
    lines = compare(results(measures={"NLL": [2.0] * 4}))
    assert threshold_gates(lines, {"NLL": 2.0})[0].passed
    assert not threshold_gates(lines, {"NLL": 1.9})[0].passed


def test_a_regression_is_a_fall_beyond_chance():
    groups = tuple(map(str, range(20)))
    low = results(groups=groups, values=(0.0,) * 19 + (1.0,))
    high = results("b", groups=groups, values=(1.0,) * 19 + (0.0,))
    fell = regression_gate(compare(low, high))
    assert not fell.passed
    assert "recall@10 fell from 0.950 to 0.050" in fell.text
    assert regression_gate(compare(high, low)).passed
    assert regression_gate(compare(BASE, TUNED)).passed  # four queries prove nothing


def test_the_guard_may_fall_by_its_margin():
    (recall, _) = compare(BASE, TUNED)
    assert not guard_gate(recall, "general", 0.374).passed
    assert guard_gate(recall, "general", 0.376).passed
    assert (
        "guard general: recall@10 fell from 0.625 to 0.250" in guard_gate(recall, "general", 0).text
    )
    (rose, _) = compare(TUNED, BASE)
    assert guard_gate(rose, "general", 0).passed
