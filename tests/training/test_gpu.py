"""The joint objective on a GPU in bf16."""

import json
import math

import pytest
import torch

from dalm.cli import app, run
from dalm.config import RagE2E
from dalm.io.examples import read_examples
from dalm.models.batching import to_device
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.training import gradient_cache
from dalm.training.data.batches import Rows
from dalm.training.objectives.candidates import BatchCandidates
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.objectives.rag import RagToken
from dalm.training.trainer import train


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_joint_objective_learns_in_bf16(tiny_models, tiny_table, tmp_path):
    settings = RagE2E(
        output_dir=str(tmp_path),
        device="cuda",
        precision="bf16",
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        num_train_epochs=20,
        learning_rate=1e-2,
        logit_scale=20.0,
        logging_steps=1,
        checkpointing_steps=10,
    )
    placement = place(settings.device, settings.precision)
    examples = read_examples(tiny_table, settings, needs={"passage", "answer"})
    generator = load_generator(str(tiny_models.generator), placement, max_length=128)
    retriever = load_retriever(str(tiny_models.encoder), placement)
    source = BatchCandidates(retriever, num_candidates=3, temperature=0.1)
    objective = RagToken(retriever, generator, source, scale=settings.logit_scale)
    rows = Rows(examples, retriever, generator)
    objective.diagnostic_batch = rows.diagnostic_batch(4)
    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    train(objective, rows, settings, placement)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line["loss"] + line["gap_random"]) for line in lines)
    assert lines[-1]["rag_token"] < lines[0]["rag_token"] - 0.5
    for name, parameter in objective.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.device.type == "cuda"
        # A key's bias adds the same to every score of a query: softmax forgets it.
        if parameter.requires_grad and not name.endswith(("key.bias", "k_proj.bias")):
            assert not torch.equal(parameter, before[name].to(parameter.device)), name
    embedded = objective.retriever.encode_queries([example.query for example in examples])
    assert embedded.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_over_an_index_refreshes_and_resumes(tiny_models, tiny_table, tmp_path):
    line = ["train-rag-e2e", tiny_table, tiny_models.encoder, tiny_models.generator]
    line += ["--output-dir", tmp_path, "--device", "cuda", "--precision", "bf16"]
    line += "--candidates index --num-candidates 3 --refresh-budget 1 --write-back".split()
    line += "--reconstruction-weight 0.5 --objective pdist --logging-steps 1".split()
    line += "--batch-size 4 --generator-max-len 128 --checkpointing-steps 2".split()
    for more in (["--max-train-steps", 4], ["--max-train-steps", 6]):
        assert run(app, [str(part) for part in line + more]) == 0
        line += ["--resume-from-checkpoint", "latest"]
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["refreshes"] > 1
    assert all(math.isfinite(each["gap_random"] + each["stale_overlap"]) for each in lines)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("alone", [False, True])
def test_both_passes_drop_the_same(
    tiny_models, tiny_table, monkeypatch, drop, kept, gradients, alone
):
    """The device has a generator of random numbers of its own."""
    placement = place("cuda", "fp32")
    settings = RagE2E(output_dir="unused")
    examples = read_examples(tiny_table, settings, needs={"passage", "answer"})
    generator = load_generator(str(tiny_models.generator), placement, max_length=128)
    retriever = load_retriever(str(tiny_models.encoder), placement)
    drop(retriever, generator, 0.3)
    source = BatchCandidates(retriever, num_candidates=3, temperature=0.1)
    objective = RagToken(retriever, generator, source, scale=20.0)
    if alone:
        objective = Contrastive(retriever, 20.0, chunk=3, dims=[8])
    objective.train()
    batch = to_device(Rows(examples, retriever, generator).collate(range(8)), placement.device)
    found = []
    for way, seed in ((gradient_cache.recomputed, 0), (kept, 0), (kept, 1)):
        monkeypatch.setattr(gradient_cache, "recomputed", way)
        torch.manual_seed(seed)
        by_name = gradients(objective, objective(batch).total)
        found.append(torch.cat([each.flatten() for each in by_name.values()]))
    ours, plain, other = found
    assert (ours - plain).norm() < 1e-4 * plain.norm()
    assert (other - plain).norm() > 1e-2 * plain.norm(), "nothing was dropped"
