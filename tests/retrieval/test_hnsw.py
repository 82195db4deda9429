import sys

import pytest
import torch
from torch.nn.functional import normalize

from dalm.errors import UserError
from dalm.records import Passage
from dalm.retrieval.exact import Index, index_kind


def passages(count):
    return [Passage(f"p{i}", f"text {i}") for i in range(count)]


@pytest.fixture(scope="module")
def pair():
    pytest.importorskip("usearch")
    torch.manual_seed(0)
    vectors = normalize(torch.randn(2000, 32))
    return Index(passages(2000), vectors), index_kind("hnsw")(passages(2000), vectors, "encoder")


def test_it_finds_nearly_all_that_exact_search_finds(pair):
    exact, graph = pair
    queries = normalize(torch.randn(100, 32, generator=torch.Generator().manual_seed(1)))
    scores, rows = graph.search(queries, 10)
    expected_scores, expected = exact.search(queries, 10)
    overlap = (rows[:, :, None] == expected[:, None, :]).any(2)
    assert overlap.float().mean() > 0.97
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    first = rows[:, 0] == expected[:, 0]
    assert first.float().mean() > 0.9
    torch.testing.assert_close(scores[first, 0], expected_scores[first, 0], rtol=0, atol=1e-6)


def test_the_same_vectors_make_the_same_graph(pair):
    _, graph = pair
    again = index_kind("hnsw")(passages(2000), graph.vectors)
    assert again.graph.save() == graph.graph.save()


def test_one_query_and_none(pair):
    _, graph = pair
    scores, rows = graph.search(graph.vectors[7:8], 1)
    assert rows.tolist() == [[7]]
    assert scores.item() == pytest.approx(1)
    assert graph.search(torch.empty(0, 32), 3)[1].shape == (0, 3)


def test_more_than_there_are():
    pytest.importorskip("usearch")
    graph = index_kind("hnsw")(passages(4), torch.eye(4).half())
    scores, rows = graph.search(torch.tensor([[1.0, 2, 3, 3], [1, 1, 1, 1]]), 9)
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
    assert torch.equal(graph.search(queries, 5)[1][1], exact.search(queries, 5)[1][1])


def test_saved_and_loaded_it_is_the_same(pair, tmp_path):
    _, graph = pair
    graph.save(tmp_path)
    loaded = Index.load(tmp_path, "encoder")
    queries = graph.vectors[:20]
    assert loaded.kind == "hnsw"
    for mine, saved in zip(graph.search(queries, 5), loaded.search(queries, 5), strict=True):
        assert torch.equal(mine, saved)


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_broken_graph_is_the_users_to_mend(pair, tmp_path, damage):
    pair[1].save(tmp_path)
    graph = tmp_path / "graph.usearch"
    if damage == "gone":
        graph.unlink()
    elif damage == "cut":
        graph.write_bytes(graph.read_bytes()[:50])
    else:
        index_kind("hnsw")(passages(3), torch.eye(3)).save(tmp_path / "other")
        (tmp_path / "other" / "graph.usearch").replace(graph)
    with pytest.raises(UserError, match="build it again"):
        Index.load(tmp_path)


def test_without_usearch_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(UserError, match=r'pip install "indomain\[hnsw\]"'):
        index_kind("hnsw")(passages(3), torch.eye(3))
