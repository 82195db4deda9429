"""The training index: exact, never partly refreshed, loaded only for the same passages."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dalm.retrieval.topk import top_k
from dalm.retrieval.training_index import SampledIndex, TrainingIndex

CPU = torch.device("cpu")


def vectors(seed, count=30, dim=6):
    made = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(made)


@pytest.fixture
def index():
    made = TrainingIndex(30, "passages", CPU)
    made.refresh(lambda rows: vectors(0)[rows])
    return made


def test_search_is_exact(index):
    asked = vectors(1, 7).double()
    scores, rows = index.search(asked, 5)
    expected_scores, expected_rows = top_k(asked, vectors(0), 5)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows, expected_rows)
    order = (asked.float() @ vectors(0).T).argsort(1, descending=True)
    assert torch.equal(rows, order[:, :5])
    assert not scores.requires_grad


def test_equal_scores_are_in_the_order_of_their_rows(index):
    index.vectors[[3, 8, 20]] = index.vectors[11].clone()
    _, rows = index.search(index.vectors[11:12], 4)
    assert rows.tolist() == [[3, 8, 11, 20]]


def test_no_more_than_there_are(index):
    scores, rows = index.search(vectors(1, 2), 99)
    assert scores.shape == (2, 30)
    assert sorted(rows[0].tolist()) == list(range(30))


def test_lookup_gives_vectors_and_zeros_for_none(index):
    rows = torch.tensor([[4, -1], [29, 4]])
    found = index.lookup(rows)
    assert found.shape == (2, 2, 6)
    assert torch.equal(found[0, 0], vectors(0)[4])
    assert torch.equal(found[1, 0], vectors(0)[29])
    assert not found[0, 1].any()


def test_write_replaces_those_rows_and_no_others(index):
    new = vectors(2, 3).double().requires_grad_()
    index.write(torch.tensor([2, 0, 29]), new)
    expected = vectors(0)
    expected[[2, 0, 29]] = new.detach().float()
    assert torch.equal(index.own, expected)
    assert index.own.dtype == torch.float32
    assert not index.own.requires_grad


def test_a_refresh_makes_everything_new(index):
    index.age = 5
    asked = []

    def encode(rows):
        asked.append(rows)
        return vectors(3)[rows]

    index.refresh(encode)
    assert np.concatenate(asked).tolist() == list(range(30))
    assert torch.equal(index.own, vectors(3))
    assert (index.age, index.refreshes) == (0, 2)
    assert index.seconds > 0


def test_no_search_sees_a_partial_refresh(index):
    """Whoever holds the vectors while they are made anew keeps the old ones, whole."""
    before = index.own.clone()

    def encode(rows):
        new = torch.empty(30, 6)
        for row in rows:
            new[row] = vectors(3)[row]
            assert torch.equal(index.own, before)
        return new

    index.refresh(encode)
    assert torch.equal(index.own, vectors(3))


def test_a_refresh_that_fails_leaves_the_old_vectors(index):
    index.age = 5

    def encode(rows):
        half = vectors(3)[rows]
        half[15:] = 0
        raise MemoryError(f"after {len(half)} rows")

    with pytest.raises(MemoryError):
        index.refresh(encode)
    assert torch.equal(index.own, vectors(0))
    assert (index.age, index.refreshes) == (5, 1)


def test_a_saved_index_is_the_same_again(index, tmp_path):
    index.age, index.work = 4, 1e15 / 3
    index.write(torch.tensor([1]), vectors(2, 1))
    index.save(tmp_path / "index.safetensors")
    again = TrainingIndex(30, "passages", CPU)
    assert again.vectors is None
    assert again.load(tmp_path / "index.safetensors") is None
    assert torch.equal(again.own, index.own)
    assert (again.age, again.work, again.refreshes) == (4, 1e15 / 3, 1)
    again.write(torch.tensor([1]), vectors(3, 1))  # it is no view of the file
    assert not torch.equal(again.own, index.own)


@pytest.mark.parametrize(("count", "identity"), [(30, "other passages"), (31, "passages")])
def test_another_knowledge_base_is_refused(index, tmp_path, count, identity):
    index.save(tmp_path / "index.safetensors")
    other = TrainingIndex(count, identity, CPU)
    problem = other.load(tmp_path / "index.safetensors")
    assert problem == "the knowledge base is another"
    assert other.vectors is None


@pytest.mark.parametrize("before", [1, 2, 4])
def test_shards_of_another_number_of_processes_are_divided_anew(
    index, tmp_path, monkeypatch, before
):
    """Of 30 vectors three processes have ten each."""
    at = {"place": (0, 1)}
    monkeypatch.setattr("dalm.retrieval.training_index.position", lambda: at["place"])
    whole, work = index.own.clone(), 12.0
    for rank in range(before):
        at["place"] = (rank, before)
        shard = TrainingIndex(30, "passages", CPU)
        shard.vectors = whole[shard.start : shard.end]
        shard.age, shard.refreshes, shard.work = 4, 3, work / before
        shard.save(tmp_path / f"index_{rank}.safetensors")
    for rank in range(3):
        at["place"] = (rank, 3)
        third = TrainingIndex(30, "passages", CPU)
        assert third.load(tmp_path / f"index_{rank}.safetensors") is None
        assert torch.equal(third.own, whole[10 * rank : 10 * rank + 10])
        assert (third.age, third.refreshes, third.work) == (4, 3, pytest.approx(4.0))
    if before > 1:
        (tmp_path / f"index_{before - 1}.safetensors").unlink()
        problem = TrainingIndex(30, "passages", CPU).load(tmp_path / "index_2.safetensors")
        assert problem == "a part of it is missing"


def cut(file):
    file.write_bytes(file.read_bytes()[:-50])


def garble(file):
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])


def strip(file):
    save_file(load_file(file), file)


def rename(file):
    from safetensors import safe_open

    with safe_open(file, "pt") as stored:
        text = stored.metadata()
    save_file({"other": vectors(0)}, file, metadata=text)


@pytest.mark.parametrize(
    "harm", [lambda f: f.unlink(), lambda f: f.write_bytes(b""), cut, garble, strip, rename]
)
def test_a_broken_file_is_refused(index, tmp_path, harm):
    file = tmp_path / "index.safetensors"
    index.save(file)
    harm(file)
    assert TrainingIndex(30, "passages", CPU).load(file) == "it is missing or broken"


def test_a_sample_is_spread_evenly_and_searched_alone():
    vectors = torch.eye(9)
    sample = SampledIndex(9, "", CPU, most=3)
    asked = []

    def encode(places):
        asked.extend(places.tolist())
        return vectors[torch.from_numpy(places)]

    sample.refresh(encode)
    assert asked == sample.places.tolist() == [0, 4, 8]
    scores, places = sample.search(vectors[[4, 8]], 5)
    assert scores[:, 0].tolist() == [1, 1]
    assert places[:, 0].tolist() == [4, 8]
    assert set(places.flatten().tolist()) == {0, 4, 8}
    found = sample.lookup(torch.tensor([[0, 1], [4, 7]]))
    assert torch.equal(found, vectors[torch.tensor([[0, 4], [4, 8]])])
    whole = SampledIndex(2, "", CPU, most=3)
    assert whole.places.tolist() == [0, 1]
