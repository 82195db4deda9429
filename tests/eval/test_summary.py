import io

import pytest
from rich.console import Console

from dalm.eval.comparison import compare
from dalm.eval.summary import (
    bounds_table,
    by_context,
    context_units,
    interval_units,
    measures_table,
    print_table,
    stages_table,
    typed_command,
)
from tests.eval.example_results import BASE, TUNED, results


def printed(width, made, **options):
    file = io.StringIO()
    print_table(made, Console(file=file, width=width, **options))
    return file.getvalue()


def test_the_table_at_eighty_characters():
    lines = printed(
        80, measures_table(compare(TUNED, BASE), "tuned [bold]model", "base")
    ).splitlines()
    assert lines[0].strip() == "tuned [bold]model against base"
    assert lines[1].strip() == "95 % intervals over 4 queries of 3 documents"
    assert lines[2].split() == "measure value 95 % baseline difference 95 % p (Holm)".split()
    assert len(lines) == 5
    assert lines[3].split()[:2] == ["recall@10", "0.625"]
    assert "0.250      +0.375" in lines[3]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [10, 40, 200])
def test_no_number_is_cut_or_folded_at_any_width(width):
    made = measures_table(compare(TUNED, BASE), "tuned", "base")
    assert printed(width, made) == printed(80, made)


def test_plain_text_away_from_a_terminal(capsys, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    print_table(measures_table(compare(TUNED), "tuned"))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.isascii()
    assert text.splitlines()[2].split() == ["measure", "value", "95", "%"]
    assert "\x1b" in printed(80, measures_table(compare(TUNED), "tuned"), force_terminal=True)


def test_bounds_stand_beside_each_other():
    measures = {"R@1": [1.0], "EM": [0.5], "EM[gold]": [0.75], "EM[none]": [0.25]}
    made = results(groups="a", values=(0,), measures=measures)
    lines = compare(made)
    assert bounds_table(compare(TUNED)) is None
    text = printed(80, bounds_table(lines))
    assert text.splitlines()[1].split()[:3] == ["measure", "found", "passages"]
    assert text.splitlines()[2].split() == ["EM", "0.500", "0.750", "0.250"]
    assert "[" not in printed(80, measures_table(lines, "x"))


def test_measures_of_fewer_queries_are_named():
    made = compare(results(measures={"EM": [1.0, 0.0, 1.0, 1.0], "NLL": [1.0, None, None, 2.0]}))
    assert interval_units(made) == (
        "95 % intervals over 4 queries of 3 documents; NLL over 2 queries of 2 documents"
    )


def test_what_is_compared_over_fewer_queries_is_named():
    values = {"EM": [1.0] * 4, "NLL": [1.0] * 4}
    base = results("base", measures=values | {"NLL": [1.0, None, None, 2.0]})
    assert interval_units(compare(results(measures=values), base)) == (
        "95 % intervals over 4 queries of 3 documents; baseline and difference of NLL over 2 "
        "queries of 2 documents"
    )


def test_what_is_read_for_fewer_queries_is_named():
    found = [1.0, 0.0, 1.0, 1.0]
    measures = dict.fromkeys(("EM", "NLL", "EM[none]", "NLL[none]"), found)
    measures |= {"EM[gold]": [1.0, None, None, 1.0], "NLL[gold]": [1.0, None, None, None]}
    rows = by_context(compare(results(measures=measures)))
    assert context_units(rows) == (
        "4 queries of 3 documents; gold passage over 2 queries of 2 documents; NLL with gold "
        "passage over 1 query of 1 document"
    )


STAGED = {"[BM25]": 0.5, "": 0.25, "[fused]": 0.75, "[reranked]": 1.0}


def test_stages_stand_below_each_other_with_the_baseline_above():
    """Twelve documents; alone and reranked every query gains, fused only one."""
    groups = [str(i) for i in range(12)]
    mine = {f"R@1{stage}": [value] * 12 for stage, value in STAGED.items()}
    theirs = {name: [0.0] * 12 for name in mine}
    theirs["R@1[BM25]"] = mine["R@1[BM25]"]
    theirs["R@1[fused]"] = [0.0] + [0.75] * 11
    made = compare(
        results(groups=groups, values=[1.0] * 12, measures=mine),
        results(groups=groups, values=[1.0] * 12, measures=theirs),
    )
    lines = [line.rstrip() for line in printed(80, stages_table(made)).splitlines()]
    assert lines == [
        "by stage of the search; * differs significantly from the baseline",
        "                           recall@1",
        "BM25                          0.500",
        "alone, baseline               0.000",
        "alone                        *0.250",
        "fused with BM25, baseline     0.688",
        "fused with BM25               0.750",
        "reranked, baseline            0.000",
        "reranked                     *1.000",
    ]
    assert "fused" not in printed(80, measures_table(made, "x", "y"))


def test_a_single_stage_is_no_table():
    assert stages_table(compare(TUNED, BASE)) is None


def test_without_a_baseline_each_stage_has_one_line():
    alone = results(groups="ab", values=(0, 1), measures={"R@1": [0, 1], "R@1[fused]": [1, 1]})
    lines = printed(80, stages_table(compare(alone))).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["alone", "0.500"],
        ["fused", "with", "BM25", "1.000"],
    ]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["/opt/bin/dalm", "compare", "a b", "c"], "dalm compare 'a b' c"),
        (["/opt/dalm/__main__.py", "compare", "a"], "python -m dalm compare a"),
        (
            ["dalm", "eval-rag", "--judge", "http://me:pass@host/v1"],
            "dalm eval-rag --judge http://***@host/v1",
        ),
    ],
)
def test_the_command_is_kept_as_it_was_typed_without_passwords(typed, kept, monkeypatch):
    monkeypatch.setattr("sys.argv", typed)
    assert typed_command() == kept
