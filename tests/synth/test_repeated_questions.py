import random

from dalm.ingest.words import words
from dalm.synth.repeated_questions import SAME_QUERY, near_duplicate_groups, repeated


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


def passage(seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(10_000)}" for _ in range(100)]


def test_near_duplicates_are_one_group_with_its_first_passage():
    first, second, third = passage(1), passage(2), passage(3)
    near = [*first[:-3], "other", "last", "words"]
    nearer = [*near[3:], "and", "some", "more"]
    texts = [" ".join(each) for each in (second, first, third, near, second, nearer)]
    assert near_duplicate_groups(texts) == [0, 1, 2, 1, 0, 1]
    assert near_duplicate_groups([]) == []
    assert near_duplicate_groups(["", ""]) == [0, 0]


def test_half_the_same_is_not_near():
    first, second = passage(1), passage(2)
    texts = [" ".join(first), " ".join(first[:50] + second[50:])]
    assert near_duplicate_groups(texts) == [0, 1]
