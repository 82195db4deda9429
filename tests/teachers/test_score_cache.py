"""The cache of scores: appended to, read again, and cut off by a kill."""

from pathlib import Path

import pytest

from dalm.errors import UserError
from dalm.teachers.score_cache import ScoreCache, pair_key

A, B, C = (pair_key("Where?", answer, "A passage.") for answer in ("Ulm", "ulm", None))


def test_keys_differ_where_anything_differs() -> None:
    others = {
        pair_key("Where?", "Ulm", "A passage"),
        pair_key("Where?Ulm", "", "A passage."),
        pair_key("Where?", "", "UlmA passage."),
        pair_key("Where?\n", "Ulm", "A passage."),
    }
    assert len({A, B, C} | others) == 7


def test_scores_are_kept_exactly(tmp_path: Path) -> None:
    scores = {A: -0.1 - 0.2, B: 1e-17}
    with ScoreCache(tmp_path / "x.txt") as cache:
        cache.add(scores)
        cache.add({C: 3.0})
    with ScoreCache(tmp_path / "x.txt") as cache:
        assert {key: cache.get(key) for key in (A, B, C)} == {**scores, C: 3.0}
    with ScoreCache(tmp_path / "another.txt") as cache:
        assert A not in cache


def test_a_line_that_was_cut_off_is_scored_again(tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "x.txt") as cache:
        cache.add({A: -1.25, B: -2.75})
    file = tmp_path / "x.txt"
    file.write_bytes(file.read_bytes()[:-3])  # -2 is a score, too
    with ScoreCache(tmp_path / "x.txt") as cache:
        assert cache.get(A) == -1.25
        assert B not in cache
        cache.add({C: 0.5})
    with ScoreCache(tmp_path / "x.txt") as cache:
        assert (A in cache, B in cache, C in cache) == (True, False, True)


def test_damaged_lines_are_scored_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "x.txt"
    file.write_bytes(
        b"zz 1\n" + A.hex().encode() + b" nan\nab 1\n\xff\n" + B.hex().encode() + b" 2\n"
    )
    with ScoreCache(tmp_path / "x.txt") as cache:
        assert A not in cache
        assert cache.get(B) == 2
    assert f"{file}: 4 scores are damaged; they are scored again" in caplog.messages


def test_one_process_writes(tmp_path: Path) -> None:
    with (
        ScoreCache(tmp_path / "x.txt"),
        pytest.raises(UserError, match="--cache-dir"),
        ScoreCache(tmp_path / "x.txt"),
    ):
        pass


def test_files_of_others_are_read_and_left_as_they_are(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    with ScoreCache(other) as cache:
        cache.add({A: -1.25, B: -2.75})
    other.write_bytes(content := other.read_bytes()[:-3])
    with ScoreCache(tmp_path / "x.txt", others=[other, tmp_path / "none.txt"]) as cache:
        assert (cache.get(A), cache.get(B)) == (-1.25, None)
        cache.add({C: 0.5})
    assert other.read_bytes() == content
    with ScoreCache(tmp_path / "x.txt") as cache:
        assert (A in cache, C in cache) == (False, True)


def test_without_a_file_nothing_is_kept() -> None:
    with ScoreCache(None) as cache:
        cache.add({A: 1.0})
        assert cache.get(A) == 1
    with ScoreCache(None) as cache:
        assert A not in cache
