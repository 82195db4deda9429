"""Two processes give what one gives on the same batch, and one set of files."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage
from dalm.training.batches import Rows
from dalm.training.objectives import Contrastive

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")
WORKER = Path(__file__).with_name("distributed_worker.py")


def torchrun(*arguments) -> subprocess.CompletedProcess:
    """Run two processes; `accelerate launch --cpu --num_processes 2` may run one, in silence."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return subprocess.run(
        [*launcher, "2", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def examples(tiny_rows):
    """Eight pairs; passages 1 and 5 are the same one, in the shares of different ranks."""
    chosen = [Example(r["Query"], r["Answer"], Passage.of(r["Passage"])) for r in tiny_rows[::2]]
    return [*chosen[:5], Example("Who is Bela?", "", chosen[1].passage), *chosen[6:8]]


@pytest.fixture(scope="module")
def batch(tiny_models, examples):
    return Rows(examples, retriever(tiny_models)).collate(range(8))


def retriever(tiny_models):
    return load_retriever(str(tiny_models.encoder), place("cpu", "fp32"))


@pytest.fixture(scope="module")
def results(tiny_models, tiny_table, batch, tmp_path_factory):
    """Run the worker on the batch and a whole training, side by side."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.save(batch, folder / "batch.pt")
    worker = [WORKER, tiny_models.encoder, folder / "batch.pt", folder / "result.pt"]
    training = [
        *("-m", "dalm", "train-retriever-only", tiny_models.encoder, tiny_table),
        *("--output-dir", folder / "run", *"--device cpu --precision fp32".split()),
        *"--batch-size 4 --epochs 2 --checkpointing-steps 2 --logging-steps 1".split(),
    ]
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(torchrun, *arguments) for arguments in (worker, training)]
        return folder, *(run.result() for run in runs)


def test_two_processes_give_the_loss_and_the_gradients_of_one(tiny_models, batch, results):
    folder, worker, _ = results
    assert worker.returncode == 0, worker.stderr
    found = torch.load(folder / "result.pt")
    objective = Contrastive(retriever(tiny_models), 20.0).double()
    loss = objective(batch).total
    loss.backward()
    torch.testing.assert_close(found["loss"], loss.detach(), rtol=0, atol=1e-10)
    gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-2
    assert set(found["gradients"]) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found["gradients"][name], gradient, rtol=0, atol=1e-10)


def test_the_false_negative_matters_to_this_batch(tiny_models, batch):
    """Otherwise equal losses would not show that it is masked across processes."""
    objective = Contrastive(retriever(tiny_models), 20.0).double()
    masked = objective(batch).total
    unmasked = objective(batch | {"keys": torch.arange(8)}).total
    assert (unmasked - masked).abs() > 1e-3


def test_a_run_of_two_processes_writes_one_set_of_files(results):
    folder, _, training = results
    assert training.returncode == 0, training.stderr
    run = folder / "run"
    assert {path.name for path in run.iterdir()} == {
        *("settings.yaml", "metrics.jsonl", "retriever", "checkpoint-4", "checkpoint-6")
    }
    states = {path.name for path in (run / "checkpoint-6").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "meter_0.json", "meter_1.json"} <= states
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    # 20 rows, batches of 4 on each of two ranks: 3 updates an epoch, each line written once.
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["epoch"] == 2.0
    said = training.stderr.count("20 questions, 10 distinct passages")
    assert said == 1
