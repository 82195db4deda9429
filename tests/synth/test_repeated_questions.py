import random

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
