"""Rank, world size and shares: of torchrun's environment, of a process group, without torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from dalm import distributed
from dalm.collectives import gather, gather_ragged, total

WORKER = """
import sys, torch
from dalm import collectives, distributed
distributed.join()
rank = distributed.rank()
items = list("abcdefg")
own = distributed.share(items)
assert own == items[rank::2], own
gathered = distributed.gather_shares([each.upper() for each in own])
assert gathered == list("ABCDEFG"), gathered
assert distributed.gather_shares([rank] * (1 - rank)) == [0]
rows = torch.full((2, 1), float(rank + 1), requires_grad=True)
whole = collectives.gather(rows)
assert whole.flatten().tolist() == [1, 1, 2, 2]
(whole.flatten() * torch.arange(4.0) * (rank + 1)).sum().backward()
assert rows.grad.flatten().tolist() == [3 * (2 * rank), 3 * (2 * rank + 1)], rows.grad
ragged = collectives.gather_ragged(torch.arange(rank + 1.0) + 10 * rank)
assert ragged.tolist() == [0, 10, 11], ragged
assert collectives.total(rank + 0.5, torch.device("cpu")) == 2.0
assert distributed.is_main() is (rank == 0)
distributed.leave()
assert not distributed.has_group()
"""


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of torchrun's process 1 of 3, before it joined a group."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("single")
def test_one_process_is_rank_0_of_1_and_has_everything() -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.is_main()
    distributed.join()
    assert not distributed.has_group()
    assert distributed.share([1, 2, 3]) == [1, 2, 3]
    assert distributed.gather_shares((1, 2, 3)) == [1, 2, 3]
    distributed.leave()


@pytest.mark.usefixtures("launched")
def test_before_a_group_the_environment_counts_and_nothing_is_shared() -> None:
    assert (distributed.rank(), distributed.world_size()) == (1, 3)
    assert not distributed.is_main()
    assert not distributed.has_group()
    assert distributed.share([1, 2, 3]) == [1, 2, 3]


@pytest.mark.usefixtures("single")
def test_collectives_of_one_process_return_what_they_are_given() -> None:
    import torch

    rows = torch.ones(2, 3, requires_grad=True)
    assert gather(rows) is rows
    assert gather_ragged(rows) is rows
    assert total(1.5, torch.device("cpu")) == 1.5


def test_no_torch_is_imported() -> None:
    code = """
import sys
from dalm import distributed
assert distributed.rank() == 0 and distributed.share([1]) == [1]
assert distributed.gather_shares([1]) == [1]
distributed.join()
distributed.leave()
assert not {"torch", "numpy"} & set(sys.modules)
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
def test_two_processes_share_gather_and_leave(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    root = str(Path(distributed.__file__).parents[1])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(worker)),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
