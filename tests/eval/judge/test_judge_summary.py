from dalm.eval.judge.verdicts import judge_summary

ORDERS = {"judged": 512, "without_verdict": 0}
FIGURES = {
    "exact_match": {"answers": 512, "agree": 0.871, "kappa": 0.614},
    "faithfulness": {**ORDERS, "orders_disagree": 0.032},
    "correctness": {**ORDERS, "orders_disagree": None},
}


def test_a_judge_in_words():
    assert list(judge_summary(FIGURES)) == [
        "the judge agrees with exact match on 87 % of 512 answers, kappa 0.61",
        "with the order swapped, the judge changed its verdict: 3 % on faithfulness",
    ]


def test_preferences_in_words():
    preferred = {
        "wins": 9,
        "losses": 4,
        "ties": 7,
        "equal_answers": 5,
        "baseline": "base",
        "orders_disagree": 0.1,
    }
    said = list(judge_summary({**FIGURES, "preference": preferred}))
    assert said[1] == (
        "the judge prefers the answer 9 times, that of base 4 times; 7 ties, "
        "5 of them equal answers"
    )
    assert said[2].endswith("10 % on preference")


def test_without_a_judge_nothing_is_said():
    assert list(judge_summary(None)) == []


def test_where_both_say_one_thing_kappa_is_undefined():
    nothing = {"answers": 3, "agree": 1.0, "kappa": None}
    assert next(judge_summary({"exact_match": nothing})).endswith("3 answers, kappa undefined")
    assert list(judge_summary({"exact_match": {**nothing, "answers": 0}})) == []
