"""Every token of every document is scored once, however documents are cut and packed."""

from collections import Counter

import numpy as np
import pytest
import torch

from dalm.training.data.packing import PackedRows, best_fit, replayed, windows
from dalm.training.resumption import content_hash

RANDOM = np.random.default_rng(0)
DOCUMENTS = [
    RANDOM.integers(2, 99, length).astype(np.int32)
    for length in (2, 5, 9, 10, 11, 19, 20, 21, 64, 3, 3, 7)
]


def scored(rows: PackedRows) -> list[int]:
    batch = rows.collate(range(len(rows)))
    return batch["tokens"][batch["scored"]].tolist()


def pairs(rows: PackedRows) -> Counter[tuple[int, int]]:
    """Return each scored token with the one before it in its row."""
    batch = rows.collate(range(len(rows)))
    before = batch["tokens"][:, :-1][batch["scored"][:, 1:]]
    return Counter(zip(before.tolist(), scored(rows), strict=True))


@pytest.mark.parametrize("length", [2, 3, 10, 16, 64, 500])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_no_token_is_lost_and_none_counted_twice(length, ranks):
    rows = PackedRows(DOCUMENTS, length, ranks=ranks)
    expected = Counter(
        p for d in DOCUMENTS for p in zip(d[:-1].tolist(), d[1:].tolist(), strict=True)
    )
    assert pairs(rows) == expected
    assert rows.scored() == sum(len(d) - 1 for d in DOCUMENTS)
    assert rows.lengths().max() <= length
    assert rows.lengths().min() >= 2
    assert len(rows) % ranks == 0


def test_windows_begin_with_the_last_token_of_the_one_before():
    begins, sizes = windows(np.array([0, 7]), np.array([7, 3]), 4)
    assert list(zip(begins, sizes, strict=True)) == [(0, 4), (3, 4), (7, 3)]


def test_a_document_of_a_start_alone_has_nothing_to_learn():
    begins, sizes = windows(np.array([0, 1]), np.array([1, 3]), 4)
    assert list(zip(begins, sizes, strict=True)) == [(1, 3)]


def test_documents_that_fit_a_row_are_not_cut():
    rows = PackedRows(DOCUMENTS, 64)
    assert len(rows.sizes) == len(DOCUMENTS)


def test_positions_begin_anew_with_each_document_and_with_the_padding():
    rows = PackedRows([np.array([1, 2, 3]), np.array([1, 4]), np.array([1, 5, 6, 7])], 6)
    batch = rows.collate([0, 1])
    assert batch["tokens"].tolist() == [[1, 5, 6, 7, 1, 4], [1, 2, 3, 0, 0, 0]]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]]
    assert batch["scored"].int().tolist() == [[0, 1, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0]]
    assert (batch["count"], batch["read"]) == (6, 9)


def test_best_fit_is_that_of_the_textbook():
    sizes = np.array([4, 8, 1, 4, 2, 1])
    assert [sorted(sizes[row]) for row in best_fit(sizes, 10)] == [[1, 1, 8], [2, 4, 4]]


def test_rows_are_nearly_full():
    sizes = np.random.default_rng(1).integers(20, 400, 2000)
    rows = best_fit(sizes, 1024)
    assert sorted(place for row in rows for place in row) == list(range(2000))
    assert max(sizes[row].sum() for row in rows) <= 1024
    assert len(rows) <= 1.01 * sizes.sum() / 1024 + 1


@pytest.mark.parametrize("tokens", [1, 7, 50, 162, 163, 1000])
def test_replay_is_exact_to_the_token_and_the_same_again(tokens):
    drawn = replayed(DOCUMENTS, tokens, seed=3)
    assert sum(len(d) - 1 for d in drawn) == tokens
    assert all((a == b).all() for a, b in zip(drawn, replayed(DOCUMENTS, tokens, 3), strict=True))
    beginnings = {tuple(d) for d in DOCUMENTS}
    assert all(tuple(d) in beginnings for d in drawn[:-1])
    assert any(tuple(d[: len(drawn[-1])]) == tuple(drawn[-1]) for d in DOCUMENTS)


def test_replay_comes_round_only_when_all_is_used():
    whole = sum(len(d) - 1 for d in DOCUMENTS)
    once = replayed(DOCUMENTS, whole, seed=0)
    assert Counter(map(tuple, once)) == Counter(map(tuple, DOCUMENTS))
    assert len(replayed(DOCUMENTS, 2 * whole, seed=0)) == 2 * len(DOCUMENTS)
    assert replayed(DOCUMENTS, 0, seed=0) == []
    assert [tuple(d) for d in replayed(DOCUMENTS, 50, 0)] != [
        tuple(d) for d in replayed(DOCUMENTS, 50, 1)
    ]


def identity(rows):
    return content_hash(vars(rows))


def test_the_hash_knows_texts_and_rows():
    plain = PackedRows(DOCUMENTS, 32)
    other = [DOCUMENTS[0], DOCUMENTS[1] + 1, *DOCUMENTS[2:]]
    same = PackedRows([d.copy() for d in DOCUMENTS], 32)
    assert identity(plain) == identity(same)
    different = [PackedRows(other, 32), PackedRows(DOCUMENTS, 33)]
    different.append(PackedRows(DOCUMENTS, 32, ranks=4))
    assert len({identity(plain), *map(identity, different)}) == 4
    assert torch.equal(*(r.collate([0])["tokens"] for r in (plain, same)))
