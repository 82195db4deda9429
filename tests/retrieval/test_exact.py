"""Exact search: the best by inner product, ties in the order of the rows."""

from itertools import product

import pytest
import torch
from torch.nn.functional import normalize

from dalm.errors import UserError
from dalm.records import Passage
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.topk import _block, top_k


def passages(count):
    return [
        Passage(f"p{i}", f"text {i}\u2028\r\n“é”", "title" if i % 2 else "") for i in range(count)
    ]


def whole_numbers(*shape, seed=0, high=3):
    """Vectors whose inner products are exact in fp32, and full of ties."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, shape, generator=generator).float()


def by_brute_force(queries, vectors, k):
    scores = queries.double() @ vectors.double().T
    values, rows = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], rows[:, :k]


@pytest.mark.parametrize(
    ("count", "k", "block"),
    list(product((1, 7, 100, 257), (1, 5, 100, 300), (None, (1, 1), (3, 7), (5, 64), (100, 300)))),
)
def test_exact_search_equals_brute_force_with_ties(count, k, block):
    queries, vectors = whole_numbers(11, 4), whole_numbers(count, 4, seed=1)
    scores, rows = top_k(queries, vectors, k, block)
    expected_scores, expected_rows = by_brute_force(queries, vectors, k)
    assert scores.shape == rows.shape == (11, min(k, count))
    assert scores.dtype == torch.float32
    assert torch.equal(scores.double(), expected_scores)
    assert torch.equal(rows, expected_rows)


def test_nothing_but_ties_gives_the_first_rows():
    scores, rows = top_k(torch.ones(70, 2), torch.ones(500, 2), 3, (70, 200))
    assert rows.tolist() == [[0, 1, 2]] * 70
    assert scores.unique().tolist() == [2.0]


def test_real_vectors_agree_with_brute_force():
    torch.manual_seed(0)
    queries, vectors = normalize(torch.randn(50, 32)), normalize(torch.randn(1000, 32))
    scores, rows = ExactIndex(passages(1000), vectors).search_rows(queries, 10)
    expected_scores, expected_rows = by_brute_force(queries, vectors, 10)
    assert torch.equal(rows, expected_rows)
    torch.testing.assert_close(scores.double(), expected_scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_stored_precision_does_not_round_the_scores(dtype):
    torch.manual_seed(0)
    queries, vectors = torch.randn(9, 16), torch.randn(300, 16).to(dtype)
    scores, rows = ExactIndex(passages(300), vectors).search_rows(queries, 20)
    expected_scores, expected_rows = by_brute_force(queries, vectors, 20)
    assert scores.dtype == torch.float32
    assert torch.equal(rows, expected_rows)
    torch.testing.assert_close(scores.double(), expected_scores, rtol=0, atol=1e-5)


def test_autocast_does_not_reach_the_scores():
    torch.manual_seed(0)
    queries, vectors = torch.randn(9, 16), torch.randn(300, 16)
    expected = top_k(queries, vectors, 5)
    with torch.autocast("cpu", torch.bfloat16):
        scores, rows = top_k(queries, vectors, 5)
    assert torch.equal(scores, expected[0])
    assert torch.equal(rows, expected[1])


def test_blocks_stay_within_the_budget():
    lines, columns = _block(torch.empty(10_000, 1), 1_000_000)
    assert 4 * lines * columns <= 64 << 20
    assert lines > 100
    assert _block(torch.empty(3, 1), 5) == (3, 5)
    assert _block(torch.empty(0, 1), 0) == (1, 1)


def test_no_queries_and_no_passages():
    assert ExactIndex(passages(4), torch.ones(4, 2)).search_rows(torch.empty(0, 2), 3)[1].shape == (
        0,
        3,
    )
    assert ExactIndex([], torch.empty(0, 2)).search_rows(torch.ones(3, 2), 3)[0].shape == (3, 0)


def test_search_keeps_no_graph_and_leaves_the_arguments_alone():
    queries = torch.randn(3, 4, requires_grad=True)
    vectors = torch.randn(9, 4, requires_grad=True)
    before = vectors.clone()
    scores, _ = ExactIndex(passages(9), vectors).search_rows(queries, 9)
    assert not scores.requires_grad
    assert torch.equal(vectors, before)


def test_what_cannot_be_searched_is_refused():
    index = ExactIndex(passages(3), torch.ones(3, 4))
    with pytest.raises(UserError, match="4 dimensions"):
        index.search_rows(torch.ones(1, 5), 1)
    with pytest.raises(ValueError, match="at least 1"):
        index.search_rows(torch.ones(1, 4), 0)
    with pytest.raises(ValueError, match="3 passages"):
        ExactIndex(passages(3), torch.ones(2, 4))


@pytest.mark.parametrize("k", [1, 2, 8, 9])
@pytest.mark.parametrize("row", [0, 5, 8])
def test_a_vector_that_is_not_a_number_is_reported(k, row):
    vectors = torch.ones(9, 2)
    vectors[row] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        ExactIndex(passages(9), vectors).search_rows(torch.ones(3, 2), k)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_gives_the_same(dtype):
    queries, vectors = whole_numbers(11, 8), whole_numbers(1000, 8, seed=1).to(dtype)
    scores, rows = ExactIndex(passages(1000), vectors.cuda()).search_rows(queries, 20)
    assert rows.is_cuda
    expected_scores, expected_rows = by_brute_force(queries, vectors, 20)
    assert torch.equal(scores.cpu().double(), expected_scores)
    assert torch.equal(rows.cpu(), expected_rows)


def test_vectors_by_the_ids_of_their_passages():
    index = ExactIndex(passages(3), torch.eye(3))
    assert torch.equal(index.vectors_of(["p2", "p0"]), torch.eye(3)[[2, 0]])
    index.add([Passage("new", "x")], torch.ones(1, 3))
    assert torch.equal(index.vectors_of(["new"]), torch.ones(1, 3))
    with pytest.raises(KeyError):
        index.vectors_of(["p9"])
