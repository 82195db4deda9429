import random

import numpy as np
import pytest

from dalm.ingest.near_duplicates import (
    CHANCE,
    FUNCTIONS,
    NearDuplicateFilter,
    group_near_duplicates,
    signatures,
)

WORDS = [f"w{n}" for n in range(5000)]


def passage(rng: random.Random, length: int = 100) -> list[str]:
    return [rng.choice(WORDS) for _ in range(length)]


def changed(rng: random.Random, words: list[str], count: int) -> list[str]:
    words = list(words)
    for place in rng.sample(range(len(words)), count):
        words[place] = "new" + rng.choice(WORDS)
    return words


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = ({tuple(words[i : i + 3]) for i in range(len(words) - 2)} for words in (one, other))
    return len(a & b) / len(a | b)


def test_signatures_estimate_jaccards_similarity():
    rng = random.Random(0)
    errors = []
    for changes in (0, 1, 2, 4, 8, 16, 100) * 20:
        one = passage(rng)
        other = changed(rng, one, changes)
        a, b = signatures([" ".join(one), " ".join(other)])
        estimate = (np.mean(a == b) - CHANCE) / (1 - CHANCE)
        errors.append(estimate - jaccard(one, other))
    assert np.abs(errors).max() < 0.17  # four standard deviations
    assert abs(np.mean(errors)) < 0.01


def test_signatures_are_the_same_on_every_machine_and_day():
    [found] = signatures(["The quick brown fox jumps over the lazy dog."])
    assert (found.dtype, found.shape) == (np.uint8, (FUNCTIONS,))
    assert found[:8].tolist() == PINNED


PINNED = [180, 194, 169, 247, 123, 178, 230, 93]


def test_case_white_space_and_width_do_not_count():
    a, b, c, d = signatures(["Ａ big  DOG\nran", "a big dog ran", "", "漢字とかな"])
    assert (a == b).all()
    assert (c != d).any()
    assert (signatures(["x"])[0] != signatures(["y"])[0]).any()


def test_near_duplicates_are_left_out_and_others_are_not():
    rng = random.Random(1)
    texts = [passage(rng) for _ in range(3000)]
    near = NearDuplicateFilter(0.8)
    assert near.add(signatures([" ".join(words) for words in texts])).all()
    kept = [changed(rng, words, 20) for words in texts[:500]]  # about 0.35
    assert near.add(signatures([" ".join(words) for words in kept])).all()
    for changes, least in ((0, 500), (1, 495), (2, 450)):  # 1, 0.94, 0.88
        copies = signatures([" ".join(changed(rng, words, changes)) for words in texts[:500]])
        assert (~near.add(copies)).sum() >= least
    assert near.count < 3600


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_the_threshold_is_met(threshold):
    rng = random.Random(2)
    met = []
    for changes in range(1, 25):
        for _ in range(10):
            one = passage(rng)
            other = changed(rng, one, changes)
            near = NearDuplicateFilter(threshold)
            first, second = near.add(signatures([" ".join(one), " ".join(other)]))
            assert first
            met.append((jaccard(one, other), not second))
    assert np.mean([found for similarity, found in met if similarity > threshold + 0.05]) > 0.95
    assert not any(found for similarity, found in met if similarity < threshold - 0.18)


def some_signatures(count: int) -> np.ndarray:
    """Return signatures of which many share bands, and some are alike."""
    rng = np.random.default_rng(0)
    found = rng.integers(0, 256, (count, FUNCTIONS), np.uint8)
    found[: count // 3, :8] = found[0, :8]
    found[count // 2 : count // 2 + 50, :120] = found[:50, :120]
    return found


def test_a_growing_table_forgets_nothing():
    found = some_signatures(9000)
    near = NearDuplicateFilter(0.8)
    is_new = near.add(found)
    assert is_new.sum() == near.count == 8950
    assert len(near.kept) == 1 << 14
    assert not near.add(found).any()
    assert {*map(bytes, near.kept[:8950])} == {*map(bytes, found[is_new])}


def test_batches_of_any_size_are_as_good_as_one_by_one():
    found = some_signatures(600)
    outcomes = []
    for size in (1, 7, 200, 600):
        near = NearDuplicateFilter(0.8)
        parts = [near.add(found[start : start + size]) for start in range(0, 600, size)]
        outcomes.append(np.concatenate(parts).tolist())
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert sum(outcomes[0]) == 550


def test_groups_are_transitive_and_named_by_their_first_text():
    rng = random.Random(3)
    first = passage(rng)
    second = changed(rng, first, 5)  # about 0.74
    third = changed(rng, second, 5)
    assert jaccard(first, third) < 0.6
    texts = [" ".join(words) for words in (passage(rng), first, third, second, passage(rng))]
    assert group_near_duplicates(texts, 0.65) == [0, 1, 1, 1, 4]
    assert group_near_duplicates(texts[:3], 0.65) == [0, 1, 2]
    assert group_near_duplicates([], 0.65) == []
