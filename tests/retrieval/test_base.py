import pytest
import torch

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.base import build_index, find


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


def test_hits_stand_best_first_in_the_order_of_the_queries():
    letters = Letters()
    index = build_index(letters, [A, B, C])
    hits = find(letters, ["c", "ab", "c"], index, k=2)
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
    index = build_index(letters, [A, B, Passage("1", "AAA"), C, B], fingerprint="letters")
    assert index.passages == [A, B, C]
    assert letters.passages == ["aaa", "bb", "ccc c"]
    assert index.fingerprint == "letters"


def test_kinds_share_one_interface():
    pytest.importorskip("usearch")
    letters = Letters()
    index = build_index(letters, [A, B, C], "hnsw")
    assert index.kind == "hnsw"
    assert find(letters, ["c"], index, 1) == [[Hit(C, 4.0)]]


def test_nothing_to_do():
    letters = Letters()
    assert find(letters, [], build_index(letters, [A]), 3) == []
    with pytest.raises(UserError, match="no passages"):
        build_index(letters, [])
    with pytest.raises(UserError, match="flat"):
        build_index(letters, [A], "flat")
