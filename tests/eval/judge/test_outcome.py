from dalm.eval.judge.judge_prompts import VERSION, correctness, faithfulness, preference
from dalm.eval.judge.verdicts import Verdict, VerdictPair, with_preferences, with_verdicts
from tests.eval.judge.answers import answered

YES, NO, TIE = Verdict("yes", "so it is"), Verdict("no", "not so"), Verdict("tie", "alike")
RESULTS = answered("Ulm", "Bern", " ")


def test_columns_figures_and_reasons_by_hand():
    first, second, _ = RESULTS.queries
    done = with_verdicts(
        RESULTS,
        [
            (faithfulness(first, "Ulm", ["x"]), VerdictPair("faithfulness", YES, NO)),
            (correctness(first, "Ulm"), VerdictPair("correctness", YES, YES)),
            (correctness(second, "Bern"), VerdictPair("correctness", NO, None)),
        ],
        "m",
    )
    assert list(done.measures) == ["EM", "faithfulness", "correctness"]
    assert done.measures["faithfulness"] == [0.5, None, None]
    assert done.measures["correctness"] == [1.0, None, 0.0]
    assert done.facts == {
        "reader_passages": 2,
        "judge": {
            "model": "m",
            "prompts": VERSION,
            "faithfulness": {"judged": 1, "without_verdict": 0, "orders_disagree": 1.0},
            "correctness": {"judged": 1, "without_verdict": 1, "orders_disagree": 0.0},
            "exact_match": {
                "answers": 1,
                "agree": 1.0,
                "kappa": None,
                "both_right": 1,
                "judge_alone": 0,
                "exact_match_alone": 0,
                "neither_right": 0,
            },
        },
    }
    assert done.verdicts[2] == {
        "query": "q1",
        "asked": "correctness",
        "value": None,
        "first": {"word": "no", "reason": "not so"},
        "swapped": None,
    }


def test_preferences_join_what_was_there():
    judged = with_verdicts(RESULTS, [], "m")
    other = answered("Ulm ", "Graz", "Linz", name="base")
    pair = VerdictPair("preference", TIE, Verdict("B"))
    done = with_preferences(judged, other, [(preference(RESULTS.queries[1], "a", "b", []), pair)])
    assert done.measures["preference"] == [0.5, 0.5, None]
    assert done.facts["judge"]["preference"]["equal_answers"] == 1
    assert done.facts["judge"]["preference"]["orders_disagree"] == 1
    assert done.facts["judge"]["model"] == "m"
    assert [verdict["asked"] for verdict in done.verdicts] == ["preference"]
