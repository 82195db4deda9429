"""Exact search, block by block and with a first pass in low precision, beside the plain product."""

import pytest
import torch

from dalm.retrieval import topk
from dalm.retrieval.topk import top_k


def naive(queries, passages, k):
    scores = queries.float() @ passages.float().T
    scores, rows = scores.sort(dim=1, descending=True, stable=True)
    return scores[:, :k], rows[:, :k]


def whole(count, dim, seed, high=3):
    """Small whole numbers: their products are exact in any precision, and often equal."""
    made = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, (count, dim), generator=made).float()


@pytest.fixture(autouse=True, params=["prefiltered", "plain", "fp32"])
def way(request, monkeypatch):
    """Prefilter even a few queries; or never; or as without bfloat16 hardware."""
    monkeypatch.setattr(topk, "PREFILTERED_QUERIES", 10**9 if request.param == "plain" else 1)
    if request.param == "fp32":
        monkeypatch.setattr(topk, "has_bf16", lambda _: False)
    return request.param


@pytest.mark.parametrize("k", [1, 7, 64, 200, 1000])
@pytest.mark.parametrize("block", [(5, 13), (16, 64), (100, 100), None])
def test_ties_are_in_the_order_of_their_rows(k, block):
    queries, passages = whole(33, 8, 1), whole(500, 8, 2)
    scores, rows = top_k(queries, passages, k, block)
    expected = naive(queries, passages, k)
    assert torch.equal(scores, expected[0])
    assert torch.equal(rows, expected[1])


@pytest.mark.parametrize("order", [1, -1])
def test_scores_that_rise_or_fall_from_block_to_block(order):
    passages = order * torch.arange(-320, 320).float()[:, None]
    queries = torch.tensor([[1.0], [-1.0], [0.5], [0.0]])
    scores, rows = top_k(queries, passages, 10, (2, 32))
    expected = naive(queries, passages, 10)
    assert torch.equal(scores, expected[0])
    assert torch.equal(rows, expected[1])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_the_best_of_random_vectors_are_found(scale, spread):
    # A small spread: all scores lie closer together than bfloat16 can tell apart.
    made = torch.Generator().manual_seed(3)
    centre = torch.randn(1, 64, generator=made)
    passages = (centre + spread * torch.randn(3000, 64, generator=made)) * scale
    queries = centre + spread * torch.randn(80, 64, generator=made)
    scores, rows = top_k(queries, passages, 20, (32, 256))
    exact = queries.double() @ passages.double().T
    best = exact.topk(20).values
    assert torch.allclose(exact.gather(1, rows), best, rtol=1e-5)
    assert torch.allclose(scores.double(), best, rtol=1e-5)
    assert all(len(set(row.tolist())) == 20 for row in rows)


def test_few_come_through_the_first_pass(way, monkeypatch):
    if way == "plain":
        pytest.skip("no prefilter")
    seen, above = [], topk.above

    def counted(queries, passages, bound, room):
        found = above(queries, passages, bound, room)
        seen.append(None if found is None else len(found.lines))
        return found

    monkeypatch.setattr(topk, "above", counted)
    made = torch.Generator().manual_seed(4)
    passages, queries = (torch.randn(n, 32, generator=made) for n in (8192, 64))
    top_k(queries, passages, 5, (64, 512))
    assert len(seen) == 15
    assert sum(found is not None for found in seen) > 10
    assert sum(filter(None, seen)) < 64 * 5 * 10


def test_what_is_no_number_comes_first():
    passages, queries = whole(300, 4, 5), whole(3, 4, 6)
    passages[270] = torch.nan
    scores, rows = top_k(queries, passages, 4, (2, 64))
    assert scores[:, 0].isnan().all()
    assert rows[:, 0].tolist() == [270] * 3
    assert not scores[:, 1:].isnan().any()


def test_infinite_scores():
    passages, queries = whole(300, 4, 5).abs() + 1, whole(3, 4, 6).abs() + 1
    passages[250, 0] = torch.inf
    passages[251, 0] = -torch.inf
    scores, rows = top_k(queries, passages, 299, (2, 64))
    assert rows[:, 0].tolist() == [250] * 3
    assert not (rows == 251).any()
    assert scores[:, 1:].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_passages_in_half_precision(dtype):
    queries, passages = whole(70, 8, 7), whole(400, 8, 8).to(dtype)
    scores, rows = top_k(queries, passages, 9, (70, 64))
    expected = naive(queries, passages, 9)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, expected[0])
    assert torch.equal(rows, expected[1])
