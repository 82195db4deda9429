import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalm.ingest.distinguishing_words import compared_words, marked_words
from dalm.ingest.near_duplicates import (
    CHANCE,
    FUNCTIONS,
    HASHED,
    TOGETHER,
    NearDuplicateFilter,
    group_near_duplicates,
    signatures,
)
from dalm.ingest.shared_content import content, share_in

WORDS = ["x" + "".join(letters) for letters in product("abcdefghijklmnopq", repeat=3)]


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


PINNED = [80, 100, 9, 160, 15, 203, 84, 233]


def test_signatures_do_not_depend_on_what_they_are_computed_with():
    rng = random.Random(7)
    texts = [" ".join(passage(rng, rng.randrange(60))) for _ in range(2 * TOGETHER + 3)]
    texts[5] = " ".join(passage(rng, 2 * HASHED))
    together = signatures(texts)
    for row, text in enumerate(texts[:40]):
        assert (signatures([text])[0] == together[row]).all()
    assert (signatures(texts[TOGETHER - 1 :]) == together[TOGETHER - 1 :]).all()
    assert signatures([]).shape == (0, FUNCTIONS)


def test_case_white_space_and_width_do_not_count():
    a, b, c, d = signatures(["the ｂig  dog\nTHE", "the big dog the", "", "漢字とかな"])
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


SHEET = (
    "The pump {name} is a single-stage pump for clean water in the heating systems of large "
    "buildings. The casing is of grey cast iron, the shaft of stainless steel, and the seal of "
    "carbon. The highest pressure is {bar} bar and it {verb} be opened by the {people} each year."
)
FIRST = {"name": "NP-100", "bar": "7", "verb": "must", "people": "owner"}


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, False),
        ({"people": "keeper"}, False),
        ({"people": "owner,"}, False),
        ({"name": "NP-101"}, True),
        ({"name": "np-100"}, False),
        ({"bar": "9"}, True),
        ({"bar": "7.5"}, True),
        ({"bar": "-7"}, True),
        ({"bar": "seven"}, True),
        ({"people": "people of Ulm"}, True),
        ({"people": "Stadtwerke"}, True),
        ({"verb": "must not"}, True),
    ],
)
def test_what_differs_in_a_number_a_code_or_a_name_is_no_duplicate(changed, kept):
    texts = [SHEET.format(**FIRST), SHEET.format(**(FIRST | changed))]
    found = signatures(texts)
    near = NearDuplicateFilter(0.8)
    assert near.add(found[:1])[0]
    assert near.add(found[1:])[0] == kept
    assert group_near_duplicates(texts, 0.7) == [0, int(kept)]


def test_a_copy_of_any_of_many_sheets_is_found():
    sheets = [SHEET.format(**(FIRST | {"name": f"NP-{n}"})) for n in range(300)]
    near = NearDuplicateFilter(0.8)
    assert near.add(signatures(sheets)).all()
    copies = [sheet.replace("each year", "every year") for sheet in sheets]
    assert not near.add(signatures(copies)).any()


@pytest.mark.parametrize(
    ("text", "name", "other"),
    [
        ("琥珀泵位于北侧，整个冬季以三巴的压力运行，管理员每月检查一次。", "琥珀", "北京"),
        ("ปั๊มของเชียงใหม่ต้องระบายน้ำออกก่อนฤดูหนาวทุกปีโดยผู้ดูแลระบบ", "เชียงใหม่", "ลำพูน"),
        ("تقع المضخة في مدينة دمشق ويجب تفريغها قبل الشتاء من كل عام", "دمشق", "حلب"),
    ],
)
def test_in_a_script_without_capitals_any_other_word_may_be_a_name(text, name, other):
    texts = [f"{text} {text} {text}", f"{text.replace(name, other)} {text} {text}"]
    assert group_near_duplicates([*texts, f"{text} {text} {text} {text}"], 0.7) == [0, 1, 0]


@given(st.text(st.sampled_from("aB1 .-\n漢か\u3099ไท่½\u00a0éÉ\u00adЖж")))
def test_any_text_stands_in_itself(text):
    assert len(marked_words(text)) == len(compared_words(text))
    assert share_in(text, content([text]), 0.8) == 1
    longer = f"here it is: {text}"
    assert share_in(longer, content(["other words", longer, "and 漢字"]), 0.8) == 1
