import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalm.eval.judge.judge_prompts import VERDICTS
from dalm.eval.judge.verdicts import Verdict, VerdictPair, read_verdict

YES, PARTLY, NO = (Verdict(word) for word in ("yes", "partly", "no"))
A, B, TIE = (Verdict(word) for word in ("A", "B", "tie"))


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": "So it is.", "verdict": "yes"}',
        '```json\n{"verdict": "Yes.", "reason": "So it\\nis."}\n```',
        '<think>{"verdict": "no"}</think> I say {"reasoning": "So it is.", "judgement": true}',
        "{'reason': 'So it is.', 'verdict': 'YES',}",
        'As {"reason": "one sentence", "verdict": "no"}: {"reason": "So it is.", "verdict": "yes"}',
        '{"result": {"explanation": "So it is.", "label": "**yes**"}}',
    ],
)
def test_the_same_verdict_in_many_guises(text):
    assert read_verdict(text, "faithfulness") == Verdict("yes", "So it is.")


@pytest.mark.parametrize(
    ("text", "kind", "word"),
    [
        ("Verdict: partly", "correctness", "partly"),
        ("It is close.\n**Final verdict:** partially", "correctness", "partly"),
        ("no", "correctness", "no"),
        ('{"verdict": ["no"]}', "correctness", "no"),
        ('{"verdict": false}', "correctness", "no"),
        ('{"verdict": "Answer A"}', "preference", "A"),
        ('{"verdict": "b"}', "preference", "B"),
        ('{"verdict": "equal"}', "preference", "tie"),
        ("Verdict: answer b", "preference", "B"),
    ],
)
def test_other_words_for_it(text, kind, word):
    assert read_verdict(text, kind) == Verdict(word)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "[]",
            "I can't say.",
            "yes and no",
            '{"reason": "yes"}',
            '{"verdict": "perhaps"}',
        ),
        *('{"verdict": "perhaps"}', '{"verdict": 1}', '{"verdict": {}}', '{"reason": "x", "verd'),
    ],
)
def test_no_verdict_is_none(text):
    assert read_verdict(text, "correctness") is None


@settings(deadline=None, database=None, derandomize=True)
@given(st.text(alphabet='{}[]",:verdictys \n', max_size=200))
def test_nothing_makes_it_fail(text):
    found = read_verdict(text, "correctness")
    assert found is None or found.word in VERDICTS["correctness"]


def test_an_unpaired_surrogate_in_a_reason_can_be_written():
    found = read_verdict('{"reason": "\\ud83d!", "verdict": "no"}', "correctness")
    assert json.dumps(found.reason, ensure_ascii=False).encode() == b'"?!"'


@pytest.mark.parametrize(
    ("kind", "first", "swapped", "value", "agree"),
    [
        ("correctness", YES, YES, 1.0, True),
        ("correctness", YES, NO, 0.5, False),
        ("correctness", PARTLY, YES, 0.75, False),
        ("faithfulness", PARTLY, PARTLY, 0.5, True),
        ("correctness", YES, None, None, None),
        ("faithfulness", None, None, None, None),
        ("preference", A, B, 1.0, True),  # swapped, the same answer is called B
        ("preference", B, A, 0.0, True),
        ("preference", A, A, 0.5, False),
        ("preference", A, TIE, 0.5, False),
        ("preference", TIE, B, 0.5, False),
        ("preference", TIE, TIE, 0.5, True),
        ("preference", None, A, None, None),
    ],
)
def test_two_orders_make_a_value(kind, first, swapped, value, agree):
    pair = VerdictPair(kind, first, swapped)
    assert (pair.value, pair.agree) == (value, agree)
