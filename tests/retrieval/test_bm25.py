import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

import dalm.retrieval.bm25 as module
from dalm.records import Passage
from dalm.retrieval.bm25 import BM25, K1, B


def passages(*texts: str) -> list[Passage]:
    return [Passage(str(row), text) for row, text in enumerate(texts)]


def ids(found: Sequence[Sequence[module.Hit]]) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in found]


def score(query: str, text: str, texts: Sequence[str]) -> float:
    """Return the formula's value, word by word."""
    mean = sum(len(other.split()) for other in texts) / len(texts)
    total = 0.0
    for word in query.split():
        among = sum(word in other.split() for other in texts)
        idf = math.log(1 + (len(texts) - among + 0.5) / (among + 0.5))
        tf = text.split().count(word)
        total += idf * tf / (tf + K1 * (1 - B + B * len(text.split()) / mean))
    return total


def test_scores_follow_the_formula() -> None:
    rng = np.random.default_rng(0)
    names = np.array("ant bee cat dog elk fox gnu hen".split())
    texts = [" ".join(rng.choice(names, rng.integers(1, 12))) for _ in range(40)]
    queries = [" ".join(rng.choice(names, rng.integers(1, 6))) for _ in range(20)]
    for query, hits in zip(queries, BM25(passages(*texts)).search(queries, 99), strict=True):
        expected = {str(row): score(query, text, texts) for row, text in enumerate(texts)}
        assert {hit.passage.id for hit in hits} == {row for row, s in expected.items() if s > 0}
        np.testing.assert_allclose(
            [hit.score for hit in hits], [expected[hit.passage.id] for hit in hits], rtol=2e-6
        )
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_one_score_by_hand() -> None:
    (hits,) = BM25(passages("cat", "dog dog")).search(["dog"], 5)
    # N = 2, n = 1: idf = ln 2; |p| = 2, mean 1.5; tf = 2
    assert hits[0].score == pytest.approx(math.log(2) * 2 / (2 + 1.2 * (0.25 + 0.75 * 2 / 1.5)))
    assert len(hits) == 1


def test_equal_scores_are_in_the_order_of_the_passages() -> None:
    index = BM25(passages("a b", "b a", "c c", "a b", "b a"))
    assert ids(index.search(["a", "b a"], 2)) == [["0", "1"], ["0", "1"]]
    assert ids(index.search(["a", "b a"], 9)) == [["0", "1", "3", "4"]] * 2


def test_a_passage_without_a_word_of_the_query_is_no_hit() -> None:
    index = BM25(passages("ant", "", "bee"))
    assert ids(index.search(["ant", "cat", "", "?!"], 3)) == [["0"], [], [], []]


def test_words_are_compared_without_case_in_any_script() -> None:
    index = BM25(passages("Die STRASSE, naß.", "東京 は 首都", "ПРИВЕТ мир"))
    assert ids(index.search(["straße", "首都", "привет"], 3)) == [["0"], ["1"], ["2"]]


def test_a_repeated_word_of_the_query_counts_twice() -> None:
    index = BM25(passages("ant bee", "ant cat"))
    once, twice = index.search(["bee", "bee bee"], 1)
    assert twice[0].score == pytest.approx(2 * once[0].score)


def test_nothing_to_search_and_nothing_to_ask() -> None:
    assert BM25([]).search(["ant"], 3) == [[]]
    assert BM25(passages("", "?")).search(["ant"], 3) == [[]]
    assert BM25(passages("ant")).search([], 3) == []
    with pytest.raises(ValueError, match="at least 1"):
        BM25(passages("ant")).search(["ant"], 0)


@pytest.mark.parametrize("k", [1, 7, 40, 900])
def test_many_queries_and_passages_are_as_each_alone_and_as_the_formula(k: int) -> None:
    rng = np.random.default_rng(1)
    names = np.array([f"w{i}" for i in range(30)])
    chances = 1 / np.arange(1, 31)
    drawn = [rng.choice(names, 9, p=chances / chances.sum()) for _ in range(700)]
    texts = [" ".join(words) for words in drawn]  # frequent words, rare ones, and many ties
    index = BM25(passages(*texts))
    queries = [" ".join(rng.choice(names, 3)) for _ in range(15)]
    found = index.search(queries, k)
    assert found == [index.search([query], k)[0] for query in queries]
    frequencies = Counter(word for words in drawn for word in set(words))
    for query, hits in zip(queries, found, strict=True):
        scores = [sum(weight(w, words, frequencies) for w in query.split()) for words in drawn]
        hit = [row for row, score in enumerate(scores) if score]
        best = sorted(hit, key=lambda row: (-round(scores[row], 4), row))[:k]
        assert [each.score for each in hits] == pytest.approx([scores[r] for r in best], abs=1e-4)
        assert [each.score for each in hits] == sorted((h.score for h in hits), reverse=True)
        places = [index.passages.index(each.passage) for each in hits]
        assert [scores[place] for place in places] == pytest.approx(
            [h.score for h in hits], abs=1e-4
        )
        ties = [(-h.score, place) for h, place in zip(hits, places, strict=True)]
        assert ties == sorted(ties)


def weight(word: str, words: Sequence[str], frequencies: Counter[str]) -> float:
    """Weight of a word in one of 700 passages of nine words each, from the formula."""
    found = list(words).count(word)
    idf = math.log(1 + (700 - frequencies[word] + 0.5) / (frequencies[word] + 0.5))
    return idf * found / (found + module.K1)
