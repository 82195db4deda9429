"""Hybrid search in LanceDB ranks at once, and finds what one ranking after the other finds."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from dalm.records import Passage
from dalm.retrieval.base import Ranked, SearchesBoth
from dalm.retrieval.hybrid import IndexSearcher
from dalm.retrieval.relevance import Relevance
from dalm.retrieval.stores.lance import LanceStore
from dalm.retrieval.where import parse_condition

COUNT, DIM = 600, 8
QUERIES = ["valve of pump 7", "pump", "nothing shared here", "oil 12", ""]


class Encoder:
    """Vectors of which four passages each have the same."""

    def encode_queries(self, texts):
        return normalize(torch.randn(len(texts), DIM, generator=torch.Generator().manual_seed(1)))

    def encode_passages(self, texts):
        vectors = torch.randn(COUNT // 4, DIM, generator=torch.Generator().manual_seed(0))
        return normalize(vectors).repeat(4, 1)[: len(texts)]


class OneByOne:
    """A store that can only be searched by vectors or by words."""

    def __init__(self, store):
        self.search, self.text_search = store.search, store.text_search


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LanceStore:
    """Return a store whose passages have many equal scores, by vectors and by words."""
    store = LanceStore(Path(tmp_path_factory.mktemp("store")), DIM, {"size": int})
    passages = [
        Passage(
            f"{place * 7919 % COUNT:03}",
            f"{'pump' if place % 3 else 'oil'} number {place % 20}",
            title="Manual" if place % 2 else "",
            source=f"file{place % 5}.pdf",
            page=place,
            extra={"size": place},
        )
        for place in range(COUNT)
    ]
    store.add(passages, Encoder().encode_passages([each.text for each in passages]))
    store.optimise(in_use=False)
    return store


@pytest.mark.parametrize("where", [None, "size >= 100 and source = 'file1.pdf'", "size < 0"])
@pytest.mark.parametrize("k", [1, 10, 250])
@pytest.mark.parametrize("judged", [False, True])
def test_both_at_once_find_the_same_as_one_after_the_other(store, k, where, judged):
    condition = where and parse_condition(where, store.columns)
    judge = {"similarity": 2.0, "coverage": 1.0, "bias": -1.0, "threshold": 0.6}
    relevance = Relevance(COUNT, {"pump": 400}, {"hybrid": judge}) if judged else None
    assert isinstance(store, SearchesBoth)
    found, right = (
        IndexSearcher(Encoder(), each, where=condition, relevance=relevance).search(QUERIES, k)
        for each in (store, OneByOne(store))
    )
    assert not isinstance(OneByOne(store), SearchesBoth)
    assert [[hit.to_dict() for hit in hits] for hits in found] == [
        [hit.to_dict() for hit in hits] for hits in right
    ]
    assert any(found) == (where != "size < 0")


def test_only_what_is_returned_is_made(store, monkeypatch):
    made = []
    from_dict = Passage.from_dict
    monkeypatch.setattr(Passage, "from_dict", lambda row: made.append(row["id"]) or from_dict(row))
    (hits,) = IndexSearcher(Encoder(), store).search(["pump 7"], 3)
    assert made == [hit.id for hit in hits]
    assert isinstance(Ranked(hits[0].id, 1.0, {}, {}, hits[0]).hit.passage, Passage)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_equal_scores_are_in_the_order_of_the_ids_where_they_are_cut(store, k):
    (all_of_them,) = store.text_search(["pump"], COUNT)
    assert len(all_of_them) == 400
    assert len({hit.score for hit in all_of_them}) == 1
    assert [hit.id for hit in all_of_them] == sorted(hit.id for hit in all_of_them)
    assert store.text_search(["pump"], k) == [all_of_them[:k]]
    _, (rows,) = store.search_both(Encoder().encode_queries(["pump"]), ["pump"], k)
    assert [(row.id, row.score) for row in rows] == [(hit.id, hit.score) for hit in all_of_them[:k]]
