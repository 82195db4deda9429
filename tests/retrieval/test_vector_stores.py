"""What every kind of vector store has to do, whichever it is."""

import pytest
import torch
from torch.nn.functional import normalize

from dalm.errors import UserError
from dalm.records import Hit, Passage
from dalm.retrieval.base import STORES, StoreKind, VectorStore, build_store


@pytest.fixture(params=list(STORES))
def kind(request: pytest.FixtureRequest) -> StoreKind:
    found = STORES[request.param]
    if found.needs:
        pytest.importorskip(found.needs)
    return found


@pytest.fixture
def store(kind: StoreKind) -> VectorStore:
    return build_store(kind.name, PASSAGES, VECTORS)


PASSAGES = [Passage(str(place), f"text {place}") for place in range(200)]
VECTORS = normalize(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)))
QUERIES = normalize(torch.randn(20, 16, generator=torch.Generator().manual_seed(1)))


def test_a_kind_has_a_name_and_a_label(kind: StoreKind) -> None:
    assert kind.name in STORES
    assert kind.label
    assert (kind.needs is None) == (kind.extra is None)


def test_the_best_are_found_best_first(store: VectorStore) -> None:
    best = (QUERIES @ VECTORS.T).topk(10)
    right = 0
    for hits, scores, rows in zip(store.search(QUERIES, 10), *best, strict=True):
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(isinstance(hit, Hit) and isinstance(hit.score, float) for hit in hits)
        found = {hit.passage.id: hit.score for hit in hits}
        right += len(found.keys() & {str(row) for row in rows.tolist()})
        assert found[hits[0].passage.id] == pytest.approx(scores[0].item(), abs=0.05)
    assert right >= 0.97 * 200


def test_passages_are_added_behind_those_that_are_there(kind: StoreKind) -> None:
    store = kind.make()
    assert store.count() == 0
    store.add(PASSAGES[:150], VECTORS[:150])
    store.add(PASSAGES[150:], VECTORS[150:])
    assert store.count() == 200
    for place in (3, 149, 150, 199):
        [[hit]] = store.search(VECTORS[place : place + 1], 1)
        assert hit.passage == PASSAGES[place]
        assert hit.score == pytest.approx(1)


def test_equal_scores_are_in_the_order_in_which_passages_were_added(kind: StoreKind) -> None:
    store = build_store(kind.name, PASSAGES[:6], torch.eye(2).repeat(3, 1))
    [hits] = store.search(torch.tensor([[1.0, 0.0]]), 3)
    assert [hit.passage.id for hit in hits] == ["0", "2", "4"]


def test_no_more_than_there_are_and_no_query(store: VectorStore) -> None:
    assert {len(hits) for hits in store.search(QUERIES, 999)} == {200}
    assert store.search(torch.empty(0, 16), 3) == []


def test_what_cannot_be_added_or_searched_is_refused(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="3 passages"):
        store.add(PASSAGES[:3], VECTORS[:2])
    with pytest.raises(ValueError, match="15 dimensions"):
        store.add(PASSAGES[:3], VECTORS[:3, :15])
    assert store.count() == 200
    with pytest.raises(UserError, match="16 dimensions"):
        store.search(QUERIES[:, :15], 3)
    with pytest.raises(ValueError, match="at least 1"):
        store.search(QUERIES, 0)


def test_a_vector_that_is_not_a_number_is_reported(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="NaN"):
        store.search(torch.full((1, 16), float("nan")), 3)
