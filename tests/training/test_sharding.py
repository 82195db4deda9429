"""Two processes that share the weights train as one does, and a run goes on on another number."""

import json
import os
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from dalm.config import RetrieverOnly
from dalm.errors import UserError
from dalm.models.loading import Placement, place
from dalm.models.retriever import load_retriever
from dalm.models.tiny import build_encoder, build_generator
from dalm.training.sharding import ShardedModels, check_shard, layers_of
from tests.conftest import build_reranker
from tests.forked import Forked
from tests.training import sharded_worker
from tests.training.sharded_worker import CASES, KEPT, UPDATES

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo"),
]
ROUNDING = 1e-10
RESUMED = ["pdist, adapted", "index"]


def two_processes(folder: Path, work) -> list[Forked]:
    """Run something in two processes that find each other."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]

    def start(rank: int) -> int:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return work()

    return [Forked(partial(start, rank), folder / f"{rank}.txt") for rank in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where each case is run in one process, in two, and on the other number from its middle."""
    folder = tmp_path_factory.mktemp("sharded")
    sizes = {"width": 16, "layers": 2, "heads": 2, "vocabulary": 200}
    encoder = build_encoder(sharded_worker.texts(), folder / "models/encoder", **sizes)
    build_generator(sharded_worker.texts(), folder / "models/generator", **sizes)
    build_reranker(encoder, folder / "models/reranker")
    how = {case: ("full", "grad")[place % 2] for place, case in enumerate(CASES)}
    run = partial(sharded_worker.run, folder / "models", folder)

    def middle(name: str) -> Path:
        return folder / name / f"checkpoint-{KEPT}"

    for steps in (
        (
            [(f"{case} 1", case, "none", None) for case in CASES],
            [(f"{case} 2", case, how[case], None) for case in CASES],
        ),
        (
            [(f"{case} 2 1", case, "none", middle(f"{case} 2")) for case in RESUMED],
            [(f"{case} 1 2", case, how[case], middle(f"{case} 1")) for case in RESUMED],
        ),
    ):
        alone, together = (partial(run, some) for some in steps)
        processes = [Forked(alone, folder / "one.txt"), *two_processes(folder, together)]
        codes = [process.end() for process in processes]
        assert codes == [0, 0, 0], "\n".join(process.text() for process in processes)
    return folder


def found(folder: Path) -> dict:
    return torch.load(folder / "found.pt")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(ours: Path, theirs: Path, case: str) -> None:
    """Compare the lines of the steps that both runs have, and the weights."""
    steps = {line["step"]: line for line in lines(theirs)}
    assert max(steps) == UPDATES
    for line in lines(ours):
        expected = steps[line["step"]]
        assert line.keys() == expected.keys()
        for key in line.keys() & {"loss", "grad_norm", "domain_bits_per_byte", "index_age"}:
            assert line[key] == pytest.approx(expected[key], abs=ROUNDING), (case, key)
    weights, expected = found(ours)["weights"], found(theirs)["weights"]
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=ROUNDING, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_with_the_losses_and_weights_of_one(folder, case):
    assert_same_run(folder / f"{case} 2", folder / f"{case} 1", case)
    assert len(lines(folder / f"{case} 2")) >= UPDATES


@pytest.mark.parametrize("case", CASES)
def test_each_process_holds_half(folder, case):
    assert found(folder / f"{case} 1")["held"] == 0
    assert 0.45 < found(folder / f"{case} 2")["held"] < 0.55


@pytest.mark.parametrize("case", CASES)
def test_there_was_something_to_learn(folder, case):
    """Otherwise equal weights prove nothing."""
    norms = [line["grad_norm"] for line in lines(folder / f"{case} 2") if line["step"]]
    assert min(norms) > 1e-3


@pytest.mark.parametrize("case", RESUMED)
@pytest.mark.parametrize("way", ["2 1", "1 2"])
def test_a_run_goes_on_on_another_number_of_processes(folder, case, way):
    """From its second update on, as if it had never stopped."""
    resumed = folder / f"{case} {way}"
    assert [line["step"] for line in lines(resumed)] == [UPDATES]
    assert_same_run(resumed, folder / f"{case} 1", case)


@pytest.mark.parametrize("case", CASES)
def test_the_export_of_sharded_models_is_that_of_one_process(folder, case):
    ours, theirs = (folder / f"{case} {ranks}" / "export" for ranks in (2, 1))
    files = {file.relative_to(ours) for file in ours.rglob("*") if file.is_file()}
    assert files == {file.relative_to(theirs) for file in theirs.rglob("*") if file.is_file()}
    assert any(file.suffix == ".safetensors" for file in files)


@pytest.mark.parametrize(
    ("options", "precision", "processes", "said"),
    [
        ({}, "fp32", 1, "--shard full: one process has no other to share with; .* torchrun"),
        ({}, "fp16", 2, "--shard full doesn't scale fp16 gradients; use --precision bf16"),
        ({"cpu_offload": True}, "fp32", 2, "--cpu-offload: the weights are in the CPU's memory"),
        ({"optimizer": "adamw-8bit"}, "fp32", 2, "adamw-8bit needs whole weights; use adamw"),
        ({"use_bnb": True}, "fp32", 2, "4-bit weights can't be sharded; leave out --use-bnb"),
        ({"train_encoders": "query-adapter"}, "fp32", 2, "a query adapter is one small matrix"),
    ],
)
def test_what_can_not_be_sharded_is_refused(monkeypatch, options, precision, processes, said):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    settings = RetrieverOnly(output_dir="o", shard="full", **options)
    with pytest.raises(UserError, match=said):
        check_shard(settings, Placement(torch.device("cpu"), precision))
    check_shard(
        replace(settings, shard="none", cpu_offload=False),
        Placement(torch.device("cpu"), precision),
    )


def test_a_single_number_can_not_be_sharded(tiny_models):
    retriever = load_retriever(str(tiny_models.encoder), place("cpu", "fp32"))
    retriever.model.scale = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UserError, match=r"--shard: model.scale is a single number"):
        ShardedModels([retriever], "full")


def test_layers_with_a_weight_in_common_are_one_group():
    """fully_shard refuses a weight that two groups have."""
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    model = torch.nn.Sequential(torch.nn.Embedding(3, 2), torch.nn.ModuleDict({"of": layers}))
    assert layers_of(model) == list(layers)
    layers[1].bias = layers[0].bias
    assert layers_of(model) == []
    layers[1].bias, model[0].weight = torch.nn.Parameter(torch.zeros(2)), layers[1].weight
    assert layers_of(model) == []
