"""Kinds of vector store, and search by the vectors of queries."""

from importlib.metadata import EntryPoint

import pytest
import torch

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval import base
from dalm.retrieval.base import DenseSearcher, StoreKind, build_index, store_kind


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


def test_kinds_share_one_interface():
    pytest.importorskip("usearch")
    letters = Letters()
    index = build_index(letters, [A, B, C], "hnsw")
    assert index.kind == "hnsw"
    assert DenseSearcher(letters, index).search(["c"], 1) == [[Hit(C, 4.0)]]


def test_nothing_to_do():
    letters = Letters()
    assert DenseSearcher(letters, build_index(letters, [A])).search([], 3) == []
    with pytest.raises(UserError, match="no passages"):
        build_index(letters, [])
    with pytest.raises(UserError, match="flat"):
        build_index(letters, [A], "flat")


def test_a_missing_package_is_refused_with_its_extra_before_anything_is_encoded(monkeypatch):
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    letters = Letters()
    with pytest.raises(UserError, match=r'pip install "indomain\[hnsw\]"'):
        build_index(letters, [A], "hnsw")
    assert letters.passages == []


def test_another_package_adds_a_kind_by_an_entry_point(monkeypatch):
    kind = StoreKind("other", "another package's", "builtins:list")
    entry = EntryPoint("other", "somewhere:KIND", base.ENTRY_POINTS)
    monkeypatch.setattr(EntryPoint, "load", lambda self: kind)
    monkeypatch.setattr("dalm.plugins.entry_points", lambda group: [entry])
    assert store_kind("other") is kind
    assert kind.make() == []
    with pytest.raises(UserError, match="choose one of 'exact', 'hnsw', 'other'"):
        store_kind("flat")
