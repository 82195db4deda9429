"""Search by the vectors of queries, and the order of hits."""

import pytest
import torch

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.base import DenseSearcher, best_in_order, like_questions
from dalm.retrieval.exact import build_index


class Letters:
    """Count letters: texts that share letters are near."""

    def __init__(self):
        self.queries = []
        self.passages = []

    def encode(self, texts):
        return torch.tensor([[float(text.count(letter)) for letter in "abc"] for text in texts])

    def encode_queries(self, texts):
        self.queries += texts
        return self.encode(texts)

    def encode_passages(self, texts):
        self.passages += texts
        return self.encode(texts)


A, B, C = Passage("1", "aaa"), Passage("2", "bb"), Passage("3", "ccc c")


def test_hits_are_best_first_in_the_order_of_the_queries():
    letters = Letters()
    index = build_index(letters, [A, B, C])
    hits = DenseSearcher(letters, index).search(["c", "ab", "c"], k=2)
    assert hits == [
        [Hit(C, 4.0), Hit(A, 0.0)],
        [Hit(A, 3.0), Hit(B, 2.0)],
        [Hit(C, 4.0), Hit(A, 0.0)],
    ]
    assert letters.queries == ["c", "ab"]
    assert isinstance(hits[0][0].score, float)
    hits[0].clear()
    assert len(hits[2]) == 2


def test_a_passage_in_several_rows_is_indexed_once():
    letters = Letters()
    index = build_index(letters, [A, B, Passage("1", "AAA"), C, B])
    assert index.passages == [A, B, C]
    assert letters.passages == ["aaa", "bb", "ccc c"]


def test_nothing_to_do():
    letters = Letters()
    assert DenseSearcher(letters, build_index(letters, [A])).search([], 3) == []
    with pytest.raises(UserError, match="no passages"):
        build_index(letters, [])


@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_equal_scores_are_in_the_order_of_the_ids_also_where_they_are_cut(k):
    scores = {f"{place:02}": float(place % 3) for place in range(60)}
    hits = sorted(
        (Hit(Passage(i, "x"), s) for i, s in scores.items()),
        key=lambda h: (-h.score, -int(h.passage.id)),
    )
    found = best_in_order(lambda places, n: [hits[:n] for _ in places], 2, k)
    right = sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))[:k]
    assert found == [right, right]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_queries_to_tune_by_are_sums_of_three_vectors(count: int) -> None:
    """One for each vector; of three different ones where there are as many."""
    queries = like_questions(torch.eye(count))
    assert queries.shape == (count, count)
    assert queries.sum(1).tolist() == [3] * count
    assert queries.max().item() == (1 if count >= 3 else 3)
