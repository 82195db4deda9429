import io

import pytest
from rich.console import Console

from dalm.eval.comparison import compare
from dalm.eval.summary import bounds_table, interval_units, measures_table, print_table
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
