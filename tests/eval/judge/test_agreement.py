import pytest

from dalm.eval.judge.verdicts import (
    Verdict,
    VerdictPair,
    agreement_figures,
    kappa,
    order_figures,
    preference_figures,
)


def pairs(kind: str, *words: str) -> list[VerdictPair]:
    """Make pairs of words such as `yes/no`; `-` is unreadable."""
    made = ([None if w == "-" else Verdict(w) for w in each.split("/")] for each in words)
    return [VerdictPair(kind, *each) for each in made]


def rights(both: int, judge_only: int, match_only: int, neither: int) -> list[tuple[bool, bool]]:
    """Make as many answers of each kind: right by judge and exact match, by one or by none."""
    return (
        [(True, True)] * both
        + [(True, False)] * judge_only
        + [(False, True)] * match_only
        + [(False, False)] * neither
    )


def test_kappa_by_hand():
    found = rights(both=20, judge_only=5, match_only=10, neither=15)
    assert agreement_figures(found)["agree"] == 0.7
    chance = 0.5 * 0.6 + 0.5 * 0.4
    assert kappa(found) == pytest.approx((0.7 - chance) / (1 - chance))
    assert kappa(found) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ((3, 0, 0, 5), 1.0),
        ((0, 4, 4, 0), -1.0),
        ((1, 1, 1, 1), 0.0),
        ((0, 2, 0, 2), 0.0),  # exact match never right: no more than chance
        ((0, 0, 0, 7), None),
        ((0, 0, 0, 0), None),
    ],
)
def test_kappa_at_its_ends(cells, expected):
    assert kappa(rights(*cells)) == expected


def test_an_answer_is_right_by_the_judge_in_both_orders_alone():
    found = agreement_figures(
        [(1.0, 1.0), (0.75, 1.0), (1.0, 0.0), (0.5, 0.0), (None, 1.0), (1.0, None)]
    )
    names = ("both_right", "judge_alone", "exact_match_alone", "neither_right")
    assert [found[name] for name in names] == [1, 1, 1, 1]
    assert (found["answers"], found["agree"]) == (4, 0.5)


def test_orders_are_counted_where_both_verdicts_can_be_read():
    found = order_figures(pairs("correctness", "yes/yes", "yes/no", "no/-", "-/-", "no/no"))
    assert found == {"judged": 3, "without_verdict": 2, "orders_disagree": pytest.approx(1 / 3)}
    assert order_figures([])["orders_disagree"] is None


def test_a_win_takes_both_orders():
    found = preference_figures(
        pairs("preference", "A/B", "A/B", "B/A", "A/A", "B/B", "A/tie", "tie/tie", "A/-"), 4
    )
    assert (found["wins"], found["losses"], found["ties"]) == (2, 1, 4 + 4)
    assert (found["judged"], found["equal_answers"], found["without_verdict"]) == (7, 4, 1)
    assert found["orders_disagree"] == pytest.approx(3 / 7)
