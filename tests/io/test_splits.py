import random

import pytest

from dalm.errors import UserError
from dalm.io.splits import DisjointSets, count_documents, split_by_document
from dalm.records import Example, Passage


def titled(documents: int, passages: int = 2, queries: int = 2) -> list[Example]:
    return [
        Example(f"q{d}.{p}.{q}", "a", Passage.of(f"text {d} {p}", f"title {d}"))
        for d in range(documents)
        for p in range(passages)
        for q in range(queries)
    ]


def titles(examples: list[Example]) -> set[str]:
    return {example.passage.title for example in examples}


def ids(examples: list[Example]) -> set[str]:
    return {example.passage.id for example in examples}


def test_a_document_is_on_one_side_and_every_example_is_somewhere_in_its_order():
    examples = titled(300)
    train, test = split_by_document(examples, 0.2, seed=0)
    assert not titles(train) & titles(test)
    assert sorted(train + test, key=examples.index) == examples
    assert train == [example for example in examples if example in set(train)]
    assert 0.1 < len(titles(test)) / 300 < 0.3


def test_without_titles_a_passage_is_a_document():
    examples = [Example(f"q{n}", None, Passage.of(f"text {n % 50}")) for n in range(200)]
    train, test = split_by_document(examples, 0.3, seed=1)
    assert train
    assert test
    assert not ids(train) & ids(test)


def test_without_passages_a_query_is_a_document():
    examples = [Example(text, "a") for n in range(50) for text in (f"What {n}?", f" what  {n}?")]
    train, test = split_by_document(examples, 0.3, seed=1)
    assert test
    assert len(train) % 2 == len(test) % 2 == 0


def test_a_passage_that_stands_under_two_titles_is_on_one_side():
    examples = titled(100)
    shared = [
        Example(f"s{d}", None, Passage.of(f"Text {d} 0", title))
        for d in range(100)
        for title in ("", f"other title {d}", f" TITLE  {d}")
    ]
    for seed in range(5):
        train, test = split_by_document(examples + shared, 0.5, seed)
        assert not ids(train) & ids(test)
        assert not titles(train) & titles(test) - {""}


def test_a_split_is_repeated_by_its_seed_and_by_no_other():
    examples = titled(100)
    first = split_by_document(examples, 0.3, seed=3)
    assert split_by_document(examples, 0.3, seed=3) == first
    assert split_by_document(examples, 0.3, seed=4) != first


def test_the_order_of_examples_and_further_documents_move_nothing():
    examples = titled(100)
    test = titles(split_by_document(examples[:200], 0.3, seed=3)[1])
    random.Random(0).shuffle(examples)
    grown_train, grown_test = split_by_document(examples, 0.3, seed=3)
    assert test < titles(grown_test)
    assert not test & titles(grown_train)


def test_a_larger_share_keeps_what_was_test():
    examples = titled(100)
    small, large = (titles(split_by_document(examples, share, 0)[1]) for share in (0.1, 0.4))
    assert small < large


@pytest.mark.parametrize("documents", [2, 3, 5])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_both_sides_have_a_document_when_there_are_two(documents, share):
    for seed in range(20):
        train, test = split_by_document(titled(documents), share, seed)
        assert train
        assert test
        assert len(titles(train)) + len(titles(test)) == documents


def test_a_single_document_is_train_and_said_so(caplog):
    examples = titled(1)
    assert split_by_document(examples, 0.9, seed=0) == (examples, [])
    assert "one document" in caplog.text
    assert split_by_document([], 0.5, seed=0) == ([], [])


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_that_is_no_share_is_refused(share):
    with pytest.raises(UserError, match="between 0 and 1"):
        split_by_document(titled(3), share, seed=0)


def test_joined_keys_are_known_by_the_least_of_them():
    sets = DisjointSets[int]()
    for one, other in ((5, 3), (9, 7), (7, 5), (1, 2)):
        sets.join(one, other)
    assert [sets.find(key) for key in (3, 5, 7, 9, 2, 8)] == [3, 3, 3, 3, 1, 8]


def of_sizes(sizes: list[int]) -> list[Example]:
    return [
        Example(f"q{d}.{n}", "a", Passage.of(f"text {d} {n}", f"title {d}"))
        for d, size in enumerate(sizes)
        for n in range(size)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("documents", [40, 66, 300])
def test_documents_and_examples_are_balanced_however_long_the_documents(documents, seed):
    rng = random.Random(seed)
    examples = of_sizes([1 + int(rng.lognormvariate(2, 1.2)) for _ in range(documents)])
    for share in (0.1, 0.3):
        train, test = split_by_document(examples, share, seed)
        assert abs(len(test) / len(examples) / share - 1) < 0.2
        assert abs(count_documents(test) - share * documents) <= max(1, 0.1 * share * documents)
        assert count_documents(train) + count_documents(test) == documents


def test_a_document_with_most_of_the_examples_is_train():
    for seed in range(10):
        train, test = split_by_document(of_sizes([200, *[5] * 40]), 0.1, seed)
        assert "title 0" in titles(train)
        assert 20 <= len(test) <= 40
        assert 4 <= count_documents(test) <= 8


def test_with_few_documents_one_of_the_right_size_is_test():
    for seed in range(10):
        _, test = split_by_document(of_sizes([1, 60, 19, 70, 90]), 0.1, seed)
        assert titles(test) == {"title 2"}


def test_passages_with_the_same_document_are_on_one_side_whatever_their_titles():
    examples = [
        Example(f"q{d}.{n}", "a", Passage.of(f"text {d} {n}", f"part {d}.{n}", document=f"d{d}"))
        for d in range(40)
        for n in range(3)
    ]
    train, test = split_by_document(examples, 0.3, 1)
    sides = [{example.passage.document for example in side} for side in (train, test)]
    assert not sides[0] & sides[1]
    assert count_documents(test) == len(sides[1]) >= 10
