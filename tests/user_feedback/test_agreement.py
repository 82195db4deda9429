"""How judgments are weighed: hand-computed, and who is believed."""

import random

import pytest

from dalm.user_feedback.agreement import Vote, evidence, reliabilities, supports


def votes(**people: str) -> list[Vote]:
    """Read a text for each person: + and - for claims 0, 1, 2 …, a blank for none."""
    return [
        Vote(person, place, sign == "+")
        for person, signs in people.items()
        for place, sign in enumerate(signs)
        if sign != " "
    ]


def support(**people: str) -> list[float]:
    given = votes(**people)
    found = supports(given, reliabilities(given))
    return [found[claim].value for claim in sorted(found)]


def test_one_person_is_right_four_times_of_five() -> None:
    """2·0.8 - 1, with evidence log 4."""
    assert reliabilities(votes(ada="++-")) == {"ada": 0.8}
    assert support(ada="++-") == pytest.approx([0.6, 0.6, -0.6])
    assert evidence(0.8) == pytest.approx(1.386294, abs=1e-6)


def test_two_people_who_agree_are_believed_more() -> None:
    """r = (4 + p)/6 and p = r²/(r² + (1 - r)²): r = 0.8287, p = 0.9590."""
    given = votes(ada="+", bob="+")
    found = reliabilities(given)
    r = found["ada"]
    assert r == found["bob"]
    p = r * r / (r * r + (1 - r) * (1 - r))
    assert r == pytest.approx((4 + p) / 6, abs=1e-8)
    assert support(ada="+", bob="+") == pytest.approx([2 * p - 1], abs=1e-7)


def test_two_people_who_contradict_each_other_say_nothing() -> None:
    for count in (1, 5, 500):
        assert support(ada="+" * count, bob="-" * count) == [0.0] * count


def test_whoever_contradicts_the_others_is_not_believed() -> None:
    given = votes(ada="+++---++", bob="+++---+-", eve="---+++--+")
    found = reliabilities(given)
    assert min(found["ada"], found["bob"]) > 0.8
    assert found["eve"] < 0.5
    values = supports(given, found)
    assert values[0].value > 0.85
    assert values[8].value == 0.0  # that eve alone has judged, and is not believed the opposite of
    assert set(values[0].shares) == {"ada", "bob"}


def test_what_a_person_alone_judges_does_not_change_the_reliability() -> None:
    shared = {"ada": "++-+", "bob": "++--"}
    alone = reliabilities(votes(**shared))
    more = reliabilities(votes(ada="++-+" + "+" * 50, bob="++--"))
    assert more["ada"] == pytest.approx(alone["ada"])


def test_the_order_of_votes_changes_nothing() -> None:
    given = votes(ada="+-+-++", bob="+--- +", eve="-+-+--", dan=" + - +")
    expected = reliabilities(given)
    random.Random(0).shuffle(given)
    assert reliabilities(given) == pytest.approx(expected)


def test_shares_sum_to_one() -> None:
    given = votes(ada="+", bob="+", eve="-")
    (found,) = supports(given, {"ada": 0.9, "bob": 0.6, "eve": 0.55}).values()
    assert found.shares == pytest.approx(
        {"ada": evidence(0.9) / (evidence(0.9) + evidence(0.6)),
         "bob": evidence(0.6) / (evidence(0.9) + evidence(0.6))}
    )  # fmt: skip
    assert found.people == 3
