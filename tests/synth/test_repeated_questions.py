import random

import pytest

from dalm.ingest.words import words
from dalm.synth.filters import SAME_QUERY, repeated


def test_a_question_repeats_the_first_that_says_the_same():
    asked = [
        "What burns in the engine of Ulm?",
        "What burns in the engine of Bern?",
        "In the engine of Ulm, what burns?",
        "what BURNS in the engine of Ulm",
        "What really burns in the engine of Ulm?",
        "Who?",
    ]
    assert repeated(asked) == [None, None, 0, 0, 0, None]
    assert repeated([]) == []


def test_it_is_exact():
    rng = random.Random(0)
    asked = [" ".join(rng.choices("abcdefgh", k=rng.randint(1, 9))) for _ in range(300)]
    expected: list[int | None] = []
    for place, text in enumerate(asked):
        one = set(words(text))
        rivals = (
            rival
            for rival in range(place)
            if expected[rival] is None
            and len(one & (other := set(words(asked[rival])))) >= SAME_QUERY * len(one | other)
        )
        expected.append(next(rivals, None))
    assert repeated(asked) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I restart the old computer with Windows 7?", "8?"),
        ("Which pressure does the pump NP-100 hold at most in winter?", "NP-101"),
        ("Which pressure does the pump at Ulm hold at most in winter?", "Bern"),
        ("Wie hoch ist der höchste Druck der alten Pumpe in Ulm?", "Bern?"),
        ("琥珀泵在冬季最冷的那几个月里用哪种油？", "桦木"),
        ("ปั๊มที่เชียงใหม่ใช้น้ำมันชนิดใดในฤดูหนาวของทุกปี", "ลำพูน"),
    ],
)
def test_what_asks_for_another_number_code_or_name_is_new(one, other):
    names = {"8?": "7?", "NP-101": "NP-100", "Bern": "Ulm", "Bern?": "Ulm?", "桦木": "琥珀"}
    changed = one.replace(names.get(other, "เชียงใหม่"), other)
    assert repeated([one, changed, one, changed.lower()]) == [None, None, 0, 1]
