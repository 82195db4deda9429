"""Two processes give what one gives on the same batch, and one set of files."""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

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


NEGATIVES = [[0, 4], [0, 6], [3, 6], [4, 7]]
"""Rows, and a row whose passage is their hard negative: three for rank 0, one for rank 1."""
CASES = {
    "contrastive": {"kind": "contrastive"},
    "contrastive, hard negatives": {"kind": "contrastive", "negatives": NEGATIVES},
    "contrastive, in chunks": {"kind": "contrastive", "negatives": NEGATIVES, "chunk": 3},
    "contrastive, cut": {"kind": "contrastive", "negatives": NEGATIVES, "dims": [3, 8]},
    "contrastive, in chunks, cut, adapted": {
        **{"kind": "contrastive", "negatives": NEGATIVES},
        **{"chunk": 2, "dims": [3, 8], "adapted": True},
    },
    "unmasked by query": {"kind": "contrastive", "unmasked": ["by_query"]},
    "unmasked by passage": {"kind": "contrastive", "unmasked": ["by_passage"]},
    "listwise": {"kind": "scored", "joint": "listwise"},
    "listwise and contrast": {"kind": "scored", "joint": "listwise", "contrastive_weight": 0.5},
    "some without a positive": {
        "kind": "scored",
        "joint": "margin_mse",
        "contrastive_weight": 0.5,
        "without": [1, 3, 5, 7],
    },
    "listwise, unmasked by passage": {
        "kind": "scored",
        "joint": "listwise",
        "contrastive_weight": 0.5,
        "unmasked": ["by_passage"],
    },
    "index": {"kind": "index"},
    # Gold passages in both shares, in one of them alone, and in none.
    "rag_token": {"kind": "searched", "without": [1, 4], "joint": "rag_token"},
    "rag_sequence": {"kind": "searched", "without": [1, 3, 5, 7], "joint": "rag_sequence"},
    "emdr2": {"kind": "searched", "without": list(range(8)), "joint": "emdr2"},
    "pdist": {"kind": "searched", "without": [0, 2, 4, 6], "joint": "pdist"},
    "lsr": {"kind": "searched", "without": [1, 4], "joint": "lsr"},
    "warm": {"kind": "searched", "without": [1], "joint": "pdist", "reader_warmup": 0.5},
    "statements": {
        "kind": "searched",
        "without": [1],
        "joint": "rag_token",
        "of_rows": {"reconstruction_weight": 0.5, "gold_probability": 0.5},
    },
    "rag_token in batch": {"kind": "in-batch", "joint": "rag_token"},
    **{
        f"{joint} in batch, hard negatives": {
            "kind": "in-batch",
            "joint": joint,
            "negatives": NEGATIVES,
        }
        for joint in ("dalm", "rag_token", "rag_sequence", "emdr2", "pdist", "lsr")
    },
    "teacher mix": {
        "kind": "searched",
        "without": [1, 4],
        "joint": "pdist",
        "scored": True,
        "teacher_mix": 0.4,
    },
    "teacher mix in batch": {
        "kind": "in-batch",
        "joint": "lsr",
        "scored": True,
        "teacher_mix": 0.4,
        "negatives": NEGATIVES,
    },
    **{
        f"{joint} in batch, in chunks": {
            **{"kind": "in-batch", "joint": joint, "negatives": NEGATIVES, "chunk": 2},
        }
        for joint in ("dalm", "rag_token", "pdist")
    },
    "rag_token, in chunks": {
        **{"kind": "searched", "without": [1, 4], "joint": "rag_token", "chunk": 2},
    },
    **{
        f"rag_token in chunks, dropout{kept}": {
            **{"kind": "in-batch", "joint": "rag_token", "negatives": NEGATIVES, "chunk": 2},
            "kept": bool(kept),
        }
        for kept in ("", ", kept")
    },
    "found": {"kind": "in-batch", "joint": "rag_token", "gold_probability": 0.5},
    "unmasked candidates": {"kind": "in-batch", "joint": "rag_token", "unmasked": True},
}
SEARCHED = [name for name, case in CASES.items() if case["kind"] == "searched"]
COMPARED = [name for name in CASES if name != "index" and "dropout" not in name]


@pytest.fixture(scope="module")
def worker():
    """Return the worker as a module: `run` gives in one process what two should give."""
    spec = importlib.util.spec_from_file_location("distributed_worker", WORKER)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def inputs(tiny_rows):
    """Eight rows, of which rank 0 takes the even ones, with a passage or a question in common.

    Rows 2 and 3 have the same passage, on different ranks, and so have 1 and 5, on one. Rows 0 and
    7 have the same question with different answers, 3 and 6 with the same answer.
    """
    rows = [[row["Query"], row["Answer"], row["Passage"]] for row in tiny_rows[::2]][:8]
    rows[5][2] = rows[1][2]
    rows[3][2] = rows[2][2]
    rows[7][0] = rows[0][0].upper()
    rows[6][:2] = rows[3][:2]
    return {"rows": rows, "cases": CASES}


@pytest.fixture(scope="module")
def one(worker, inputs, tiny_models):
    """What comes out in one process."""
    return worker.run(str(tiny_models.encoder), str(tiny_models.generator), inputs)


@pytest.fixture(scope="module")
def mixed_table(tiny_rows, tmp_path_factory):
    """Half of the rows have no passage."""
    file = tmp_path_factory.mktemp("mixed") / "mixed.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(tiny_rows[0]))
        writer.writeheader()
        writer.writerows(r | {"Passage": r["Passage"] * (n % 2)} for n, r in enumerate(tiny_rows))
    return file


SHARED = "--device cpu --precision fp32 --batch-size 4 --epochs 2 --logging-steps 1".split()


def over_an_index(models, passages, table, folder) -> list:
    return [
        *("-m", "dalm", "train-rag-e2e", table, models.encoder, models.generator, *SHARED),
        *("--checkpointing-steps", 2, "--output-dir", folder),
        *("--candidates", "index", "--passages", passages, "--objective", "pdist"),
        *"--reader-warmup 0.4 --refresh-budget 1 --reconstruction-weight 0.5".split(),
        *"--generator-max-len 128 --learning-rate 1e-2 --gold-probability 0.5".split(),
    ]


@pytest.fixture(scope="module")
def results(tiny_models, tiny_table, mixed_table, inputs, tmp_path_factory):
    """Run the worker and two whole trainings, side by side."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "inputs.json").write_text(json.dumps(inputs))
    models = (tiny_models.encoder, tiny_models.generator)
    worker = [WORKER, *models, folder / "inputs.json", folder / "result.pt"]
    alone = ["-m", "dalm", "train-retriever-only", tiny_models.encoder, tiny_table, *SHARED]
    alone += ["--checkpointing-steps", 2, "--output-dir"]
    joint = over_an_index(tiny_models, tiny_table, mixed_table, folder / "joint")
    with ThreadPoolExecutor() as pool:
        commands = (worker, [*alone, folder / "run"], joint)
        runs = [pool.submit(torchrun, *arguments) for arguments in commands]
        return folder, *(run.result() for run in runs)


@pytest.fixture
def two(results):
    """What comes out in two processes."""
    folder, worker, *_ = results
    assert worker.returncode == 0, worker.stderr
    return torch.load(folder / "result.pt")


@pytest.mark.parametrize("case", COMPARED)
def test_two_processes_give_the_loss_and_the_gradients_of_one(one, two, case):
    found, expected = two[case], one[case]
    torch.testing.assert_close(found["loss"], expected["loss"], rtol=0, atol=1e-10)
    gradients = expected["gradients"]
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-2
    assert set(found["gradients"]) == set(gradients)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found["gradients"][name], gradient, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    ("case", "without"),
    [
        ("contrastive", "unmasked by query"),
        ("contrastive, hard negatives", "contrastive, cut"),
        ("contrastive", "unmasked by passage"),
        ("contrastive", "contrastive, hard negatives"),
        ("listwise", "listwise and contrast"),
        ("listwise and contrast", "listwise, unmasked by passage"),
        ("rag_token in batch", "unmasked candidates"),
        ("rag_token in batch", "rag_token in batch, hard negatives"),
        ("rag_token in batch", "found"),
        ("teacher mix", "pdist"),
        ("teacher mix in batch", "lsr in batch, hard negatives"),
    ],
)
def test_what_is_masked_and_gathered_matters_to_this_batch(one, case, without):
    """Otherwise equal losses would not show that it is so across processes."""
    assert (one[case]["loss"] - one[without]["loss"]).abs() > 1e-4


def test_chunks_on_two_processes_give_the_gradient_of_one_process_without_them(one, two):
    pairs = {
        "contrastive, in chunks": "contrastive, hard negatives",
        "rag_token, in chunks": "rag_token",
        **{
            f"{joint} in batch, in chunks": f"{joint} in batch, hard negatives"
            for joint in ("dalm", "rag_token", "pdist")
        },
    }
    for chunked, whole in pairs.items():
        found, expected = two[chunked], one[whole]
        torch.testing.assert_close(found["loss"], expected["loss"], rtol=0, atol=1e-10)
        torch.testing.assert_close(found["gradients"], expected["gradients"], rtol=0, atol=1e-10)


def test_each_process_draws_the_masks_of_its_first_pass_in_the_second(one, two):
    """With dropout, two processes in chunks compute what they do with every activation kept."""
    found = two["rag_token in chunks, dropout"]
    expected = two["rag_token in chunks, dropout, kept"]
    torch.testing.assert_close(found["loss"], expected["loss"], rtol=0, atol=1e-10)
    torch.testing.assert_close(found["gradients"], expected["gradients"], rtol=0, atol=1e-10)
    dropped = (found["loss"] - one["rag_token in batch, hard negatives"]["loss"]).abs()
    assert dropped > 1e-3, "nothing was dropped"


@pytest.mark.parametrize("case", SEARCHED)
def test_what_two_processes_write_back_is_what_one_does(one, two, case):
    found, expected = two[case]["index"], one[case]["index"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    written = (expected.norm(dim=1) - 1.01).abs() > 1e-3
    assert written.any() or case == "warm"


def test_two_shares_are_searched_as_one_index(one, two):
    """Ties too; of 11 passages the shares have 5 and 6."""
    assert two["index"].keys() == one["index"].keys()
    for name, expected in one["index"].items():
        assert torch.equal(two["index"][name], expected), name
    ties = one["index"]["scores 8"]
    assert (ties[:, 1:] == ties[:, :-1]).any()


def test_a_run_of_two_processes_writes_one_set_of_files(results):
    folder, _, training, _ = results
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


def test_two_processes_train_over_an_index(results):
    folder, _, _, training = results
    assert training.returncode == 0, training.stderr
    run = folder / "joint"
    assert (run / "retriever" / "modules.json").is_file()
    assert (run / "generator" / "config.json").is_file()
    shares = [load_file(run / "checkpoint-6" / f"index_{rank}.safetensors") for rank in (0, 1)]
    assert [share["vectors"].shape[0] for share in shares] == [5, 5]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    warm, joint = lines[:3], lines[3:]  # 0.4 of 6 updates are 2.4: the third one is warm, too
    assert [line["index_age"] for line in warm] == [0, 0, 0]
    assert max(line["grad_norm"] for line in lines) > 0
    assert joint[-1]["refreshes"] > 1
    assert training.stderr.count("20 questions, 10 distinct passages") == 1


def test_two_processes_go_on_with_their_shares_of_the_index(
    results, tiny_models, tiny_table, mixed_table, tmp_path
):
    """From the checkpoint of update 4 on, as if they had never stopped."""
    folder, _, _, training = results
    assert training.returncode == 0, training.stderr
    run = shutil.copytree(folder / "joint", tmp_path / "joint")
    for name in ("checkpoint-6", "retriever", "generator"):
        shutil.rmtree(run / name)
    line = over_an_index(tiny_models, tiny_table, mixed_table, run)
    resumed = torchrun(*line, "--resume-from-checkpoint", "latest")
    assert resumed.returncode == 0, resumed.stderr
    assert f"index      loaded from {run}/checkpoint-4/index_0" in resumed.stderr
    assert "built again" not in resumed.stderr
    files = ["retriever/model.safetensors", "generator/model.safetensors"]
    files += [f"checkpoint-6/index_{rank}.safetensors" for rank in (0, 1)]
    for name in files:
        found, expected = load_file(run / name), load_file(folder / "joint" / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found), name


LEAVES = """
import os, sys
from pathlib import Path
from dalm import cli

try:
    cli.main()
finally:
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    print("left", os.environ["RANK"], any("gloo" in name for name in names), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux names its threads there")
def test_no_thread_of_the_group_is_left_when_a_process_ends(tiny_models, tiny_table, tmp_path):
    """One that was took the process down as it ended, and torchrun the others."""
    script = tmp_path / "leaves.py"
    script.write_text(LEAVES)
    named = ["--retriever-name-or-path", tiny_models.encoder, "--output-dir", tmp_path / "run"]
    done = torchrun(script, "eval-retriever", tiny_table, *named)
    assert done.returncode == 0, done.stderr
    assert sorted(x for x in done.stdout.splitlines() if x.startswith("left")) == [
        "left 0 False",
        "left 1 False",
    ]
