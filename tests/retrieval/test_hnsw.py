"""The graph index: nearly what exact search finds, with exact scores, repeatable."""

import pytest
import torch
from torch.nn.functional import normalize

from dalm.records import Passage
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.hnsw import HnswIndex


def passages(count):
    return [Passage(f"p{i}", f"text {i}") for i in range(count)]


@pytest.fixture(scope="module")
def pair():
    pytest.importorskip("usearch")
    torch.manual_seed(0)
    vectors = normalize(torch.randn(2000, 32))
    return ExactIndex(passages(2000), vectors), HnswIndex(passages(2000), vectors)


def test_it_finds_nearly_all_that_exact_search_finds(pair):
    exact, graph = pair
    queries = normalize(torch.randn(100, 32, generator=torch.Generator().manual_seed(1)))
    scores, rows = graph.search_rows(queries, 10)
    expected_scores, expected = exact.search_rows(queries, 10)
    overlap = (rows[:, :, None] == expected[:, None, :]).any(2)
    assert overlap.float().mean() > 0.97
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    first = rows[:, 0] == expected[:, 0]
    assert first.float().mean() > 0.9
    torch.testing.assert_close(scores[first, 0], expected_scores[first, 0], rtol=0, atol=1e-6)


def test_the_same_vectors_make_the_same_graph(pair):
    _, graph = pair
    again = HnswIndex(passages(2000), graph.vectors)
    assert again.graph.save() == graph.graph.save()


def test_one_query_and_none(pair):
    _, graph = pair
    scores, rows = graph.search_rows(graph.vectors[7:8], 1)
    assert rows.tolist() == [[7]]
    assert scores.item() == pytest.approx(1)
    assert graph.search_rows(torch.empty(0, 32), 3)[1].shape == (0, 3)


def test_more_than_there_are():
    pytest.importorskip("usearch")
    graph = HnswIndex(passages(4), torch.eye(4).half())
    scores, rows = graph.search_rows(torch.tensor([[1.0, 2, 3, 3], [1, 1, 1, 1]]), 9)
    assert rows.tolist() == [[2, 3, 1, 0], [0, 1, 2, 3]]
    assert scores.tolist() == [[3, 3, 2, 1], [1, 1, 1, 1]]


def test_a_query_that_finds_too_few_is_searched_exactly(pair, monkeypatch):
    exact, graph = pair
    whole = graph.graph
    queries = graph.vectors[:3]

    class TooFew:
        def search(self, vectors, k):
            found = whole.search(vectors, k)
            found.counts[1] = 2
            found.keys[1, 2:] = 2**64 - 1
            return found

    monkeypatch.setattr(graph, "graph", TooFew())
    assert torch.equal(graph.search_rows(queries, 5)[1][1], exact.search_rows(queries, 5)[1][1])
