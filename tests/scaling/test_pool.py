"""Pools: results in order, what a worker logs and refuses, options that have no effect."""

import logging
import os
import pickle
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from dalm.config import Index, Passages
from dalm.errors import UserError
from dalm.scaling.pool import InProcess, Worker, WorkerDiedError, check_pool, pool_of
from dalm.scaling.process_pool import ProcessPool


def halved(number: int) -> float:
    """Return half a number; refuse odd ones, and log small ones."""
    if number % 2:
        raise UserError(f"{number}: odd")
    if number < 3:
        logging.getLogger("dalm.halves").info("%d is small", number)
    return number / 2


def dying(number: int) -> int:
    """Die over 5."""
    if number == 5:
        os._exit(1)
    return number


def test_a_worker_sends_back_what_it_logs_and_refuses(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(lambda: halved)
    with caplog.at_level(logging.INFO, "dalm"):
        found = worker(2)
        assert not caplog.messages
        assert found.take() == 1
    assert caplog.messages == ["2 is small"]
    with pytest.raises(UserError, match="3: odd"):
        worker(3).take()


def test_what_the_system_says_comes_back_as_it_is() -> None:
    found = Worker(lambda: open)("/nowhere/at all")
    with pytest.raises(FileNotFoundError) as raised:
        pickle.loads(pickle.dumps(found)).take()
    assert raised.value.filename == "/nowhere/at all"


def test_a_worker_that_cannot_be_made_says_so_with_the_first_item() -> None:
    def make() -> None:
        raise UserError("no such model")

    worker = Worker(make)
    with pytest.raises(UserError, match="no such model"):
        worker(1).take()


def test_processes_keep_the_order_and_name_what_one_died_over() -> None:
    pool = ProcessPool(2)
    assert list(pool.map(partial(partial, halved), range(0, 20, 2))) == list(range(10))
    with pytest.raises(WorkerDiedError) as raised:
        list(pool.map(partial(partial, dying), range(9)))
    assert 5 in raised.value.items


def test_options_choose_the_pool() -> None:
    assert isinstance(pool_of(Passages(output="a.jsonl")), InProcess)
    assert pool_of(Passages(output="a.jsonl", processes=2)).processes == 2
    assert Passages(output="a.jsonl", ray=[]).ray == ["local"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ray": ["auto"], "processes": 2}, "--processes has no effect with --ray"),
        ({"ray": [], "ray_actors": 3, "ray_max_actors": 2}, "--ray-max-actors 2: fewer than"),
        ({"ray": ["ray://10.0.0.1:10001"]}, "--ray ray://10.0.0.1:10001: not an address"),
        ({"ray": ["nowhere"]}, "--ray nowhere: not an address"),
        ({"ray": ["127.0.0.1:9"]}, "--ray 127.0.0.1:9: no Ray answers there (Connection refused)"),
    ],
)
def test_what_cannot_work_is_refused(
    options: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dalm.scaling.ray_cluster.check_installed", lambda: None)
    with pytest.raises(UserError) as raised:
        check_pool(Passages(output="a.jsonl", **options))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("there", "options", "message"),
    [
        (None, {"ray": ["auto"]}, "--ray auto: no Ray that takes this one runs on this machine"),
        ([4, 0], {"ray": ["auto"], "ray_actors": 3}, "has 4 CPUs, and 3 actors need 5"),
        ([4, 1], {"ray": ["auto"], "ray_actors": 2, "ray_gpus": 1}, "--ray-gpus 1: the Ray"),
        ([4, 0], {"ray": [], "ray_gpus": 1}, "--ray-gpus 1: the Ray cluster (local) has 0 GPUs"),
        ([4, 2], {"ray": ["auto"], "ray_actors": 2, "ray_gpus": 1}, None),
    ],
)
def test_what_the_cluster_lacks_is_refused_before_anything_is_read(
    there: list[int] | None,
    options: dict[str, object],
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(line: list[str], **_: object) -> CompletedProcess[str]:
        return CompletedProcess(line, there is None, f"a line of Ray\n{there}\n")

    monkeypatch.setattr("dalm.scaling.ray_cluster.check_installed", lambda: None)
    monkeypatch.setattr("dalm.scaling.ray_cluster._local_gpus", lambda: 0)
    monkeypatch.setattr("dalm.scaling.ray_cluster.subprocess.run", ask)
    settings = Index(index_dir="index", **options)
    if message is None:
        check_pool(settings)
        return
    with pytest.raises(UserError) as raised:
        check_pool(settings)
    assert message in str(raised.value)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalm.scaling.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "indomain\[ray\]"'):
        check_pool(Passages(output="a.jsonl", ray=[]))


def test_relative_paths_hold_in_a_process(tmp_path: Path) -> None:
    made = ProcessPool(1).map(partial(partial, os.path.isdir), [str(tmp_path)])
    assert list(made) == [True]
