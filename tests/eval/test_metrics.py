"""The registry: what every metric says of itself, and that tables, gates and report follow it."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from dalm.errors import UserError
from dalm.eval.answers import score_answers
from dalm.eval.comparison import compare
from dalm.eval.metrics import (
    METRICS,
    Metric,
    higher_is_better,
    label,
    metric_of,
    metrics_that_need,
    registered,
)
from dalm.eval.quality_gates import threshold_gates
from dalm.eval.report.page import Report, render
from dalm.eval.report.query_table import table_data
from dalm.eval.report.sections import Section
from dalm.records import JudgedQuery
from tests.eval.example_results import results

LENGTH = Metric(
    name="words",
    label="answer length",
    needs="references",
    higher_is_better=False,
    headline=True,
    failures="one word",
    score=lambda answer, _, hits: float(len(answer.split()) + len(hits)),
)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_computed_by_its_score_or_where_it_needs_more(metric):
    by_its_score = {"references", "passages", "answerable", "citations"}
    assert (metric.score is not None) == (metric.needs in by_its_score)


def test_labels_and_directions_are_those_of_the_metric_of_a_column():
    assert [label(name) for name in ("R@10", "EM", "EM[none]", "RR", "Rprec", "other@3")] == [
        *("recall@10", "EM", "EM, no passage", "MRR", "R-precision", "other@3")
    ]
    lower = {name for name in METRICS if not higher_is_better(name)}
    assert lower == {"NLL", "false abstention"}
    assert [higher_is_better(name) for name in ("NLL[gold]", "R@10", "other")] == [
        *(False, True, True)
    ]
    assert metric_of("other") is None


def test_the_documentation_describes_every_metric():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8").lower()
    names = {"EM": "exact match", "F1": "token F1"}
    for name, metric in METRICS.items():
        assert names.get(name, metric.label or name).lower() in text, name


@pytest.fixture
def installed(monkeypatch):
    """Take entry points instead of the installed packages' own."""
    asked = []

    def install(*entries):
        monkeypatch.setattr(
            "dalm.plugins.entry_points", lambda group: asked.append(group) or entries
        )
        registered.cache_clear()
        return asked

    yield install
    registered.cache_clear()


def test_another_package_brings_a_metric_by_an_entry_point(installed):
    asked = installed(EntryPoint("words", "tests.eval.test_metrics:LENGTH", "dalm.metrics"))
    assert list(registered()) == [*METRICS, "words"]
    assert label("words") == "answer length"
    assert asked == ["dalm.metrics"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:x", "'words' .*can't be loaded: No module named 'no_such_module'"),
        ("pathlib:Path", "'words' .*is a type, not a"),
    ],
)
def test_an_entry_point_that_is_no_metric_is_named(installed, value, said):
    installed(EntryPoint("words", value, "dalm.metrics"))
    with pytest.raises(UserError, match=said):
        registered()


def test_one_entry_is_enough_for_a_new_metric(monkeypatch):
    monkeypatch.setitem(registered(), "words", LENGTH)
    assert LENGTH in metrics_that_need("references")
    query = JudgedQuery(id="q", query="?", references=("é",))
    assert score_answers([LENGTH], ["a b"], [query], [()]) == {"words": [2.0]}
    groups = tuple("abcdefgh")
    mine = results(groups=groups, values=(0,) * 8, measures={"R@1": [1] * 8, "words": [2.0] * 8})
    base = results(
        "b", groups=groups, values=(0,) * 8, measures={"R@1": [1] * 8, "words": [3.0] * 8}
    )
    measures = compare(mine, base)
    assert [each.verdict for each in measures] == ["even", "better"]
    (gate,) = threshold_gates(measures, {"words": 2.0})
    assert (gate.passed, gate.text) == (
        True,
        "answer length is 2.000 over 8 queries of 8 documents (maximum 2)",
    )
    page = render(Report(sections=[Section(systems=[mine], measures=[measures], baseline=base)]))
    assert '<span class="name">answer length</span>' in page
    assert table_data([mine], base)["measures"]["words"] == {
        "label": "answer length",
        "higher_is_better": False,
        "failures": "one word",
    }
