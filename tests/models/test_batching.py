import numpy as np
import pytest

from dalm.models.batching import Ragged, by_length, pad

SEQUENCES = [[5, 6, 7], [], [8], np.array([9, 10], np.int32)]


def test_ragged_gives_back_what_it_was_given():
    ragged = Ragged(SEQUENCES)
    assert len(ragged) == 4
    assert [ragged[row].tolist() for row in range(4)] == [[5, 6, 7], [], [8], [9, 10]]
    assert ragged.lengths.tolist() == [3, 0, 1, 2]
    assert ragged.flat.dtype == np.int32
    assert len(Ragged([])) == 0


def test_padding_on_the_right():
    ids, mask = pad(SEQUENCES, 0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 0], [8, 0, 0], [9, 10, 0]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_padding_on_the_left():
    ids, mask = pad(SEQUENCES, 3, left=True)
    assert ids.tolist() == [[5, 6, 7], [3, 3, 3], [3, 3, 8], [3, 9, 10]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 1], [0, 1, 1]]


def test_padding_nothing_gives_a_column():
    for sequences in ([], [[]]):
        ids, mask = pad(sequences, 0)
        assert ids.shape == mask.shape == (len(sequences), 1)
        assert not mask.any()


@pytest.mark.parametrize(("budget", "most"), [(64, 100), (64, 2), (1, 3), (10**6, 100)])
def test_groups_hold_each_row_once_longest_first_within_the_budget(budget, most):
    lengths = np.random.default_rng(0).integers(0, 40, 57)
    groups = list(by_length(lengths, budget, most))
    assert sorted(row for group in groups for row in group) == list(range(57))
    tops = [lengths[group].max() for group in groups]
    assert tops == sorted(tops, reverse=True)
    for group, top in zip(groups, tops, strict=True):
        assert len(group) <= most
        assert len(group) == 1 or len(group) * top <= budget


def test_no_rows_make_no_group():
    assert list(by_length(np.array([], np.int64), 10, 10)) == []
