"""A signal ends training within seconds, whatever it is doing, and says how to go on."""

import hashlib
import os
import signal
import time

import pytest

from dalm import stop_signals
from dalm.cli import app, run
from dalm.training import checkpoints
from dalm.training.objectives.index_candidates import IndexCandidates
from dalm.training.trainer import ObjectiveTrainer
from tests.forked import Forked, waiting_at

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def arguments(tiny_models, tiny_table, tmp_path):
    line = ["train-rag-e2e", tiny_table, tiny_models.encoder, tiny_models.generator]
    line += (
        "--device cpu --precision fp32 --batch-size 4 --epochs 3 --generator-max-len 128".split()
    )
    line += "--candidates index --num-candidates 2 --refresh-budget 1 --learning-rate 1e-2".split()
    return [*map(str, line), "--checkpointing-steps", "2", "--output-dir", str(tmp_path / "run")]


def trained(arguments, tmp_path, prepare, grace=0.5):
    """Train in a process of its own, in which signals have little time; `prepare` changes it."""

    def work() -> int:
        stop_signals.GRACE, stop_signals.LIMIT = grace, 3.0
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
        stop_signals.listen()
        prepare()
        return run(app, arguments)

    return Forked(work, tmp_path / "log.txt")


def waiting_from(owner, name, call, flag, wait):
    """Let a method wait in its call of this number, from 0."""
    function, calls = getattr(owner, name), iter(range(1000))

    def called(*given, **named):
        if next(calls) == call:
            flag.touch()
            wait()
        return function(*given, **named)

    setattr(owner, name, called)


def pause():
    for _ in range(10_000):
        time.sleep(0.01)


def native():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


@pytest.mark.parametrize(
    ("number", "wait"), [(signal.SIGTERM, pause), (signal.SIGHUP, pause), (signal.SIGTERM, native)]
)
def test_a_refresh_is_broken_off_and_the_last_checkpoint_named(arguments, tmp_path, number, wait):
    flag = tmp_path / "refreshing"
    started = trained(
        arguments, tmp_path, lambda: waiting_from(IndexCandidates, "_encode", 4, flag, wait)
    )
    started.wait_for(flag)
    started.send(number)
    assert started.end() == 128 + number
    last = checkpoints.find("latest", tmp_path / "run")
    assert started.text().splitlines()[-1] == (
        f"dalm: stopped; {last} is the last checkpoint: run the same command with "
        "--resume-from-checkpoint latest to go on"
    )
    assert "Traceback" not in started.text()
    assert not list((tmp_path / "run").glob(".*.lock"))


def test_a_step_that_ends_in_time_is_followed_by_a_checkpoint(arguments, tmp_path):
    flag = tmp_path / "stepping"

    def prepare() -> None:
        waiting_from(ObjectiveTrainer, "compute_loss", 4, flag, lambda: time.sleep(0.1))

    started = trained(arguments, tmp_path, prepare, grace=60)
    started.wait_for(flag)
    started.send(signal.SIGTERM)
    assert started.end() == 143
    assert "dalm: stopped by SIGTERM after writing" in started.text()
    assert checkpoints.find("latest", tmp_path / "run").name == "checkpoint-5"


@pytest.mark.parametrize(
    "place",
    [
        "dalm.io.examples.read_examples",
        "dalm.training.data.batches.Rows.__init__",
    ],
)
def test_what_comes_before_training_is_broken_off_at_once(arguments, tmp_path, place):
    started = trained(arguments, tmp_path, lambda: waiting_at(place, tmp_path / "there"))
    started.wait_for(tmp_path / "there")
    started.send(signal.SIGTERM)
    assert started.end() == 143
    assert started.text().splitlines()[-1] == "dalm: stopped"
    assert not (tmp_path / "run").exists()
