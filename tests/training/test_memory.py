"""What a step keeps is counted at its peak, and a step that doesn't fit names what takes less."""

import logging
import re

import pytest
import torch

from dalm.cli import app, run
from dalm.config import GeneratorOnly, RetrieverOnly
from dalm.errors import UserError
from dalm.training import memory


def weights(*shape):
    return torch.ones(*shape, requires_grad=True)


def test_what_graphs_keep_is_counted_once_and_until_it_is_let_go():
    kept, weight = memory.KeptBytes(), weights(1000)
    with kept.counting():
        loss = (weight.exp().square() * 2).sum()  # exp keeps its result, which square keeps too
        assert kept.now == kept.most == 4000
        loss.backward()
        assert (kept.now, kept.most) == (0, 4000)
        weights(10).exp().sum().backward()
        assert (kept.now, kept.most) == (0, 4000)
        both = weights(600).exp().sum() + weights(900).exp().sum()
        assert (kept.now, kept.most) == (6000, 6000)
        both.backward()
    torch.testing.assert_close(weight.grad, torch.full((1000,), 4 * torch.e**2))


def test_weights_are_left_out():
    weight, inputs = weights(50, 50), weights(50)
    kept = memory.KeptBytes({weight.untyped_storage().data_ptr()})
    with kept.counting():
        product = weight @ inputs  # keeps both
        assert kept.now == 200
        product.sum().backward()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            RetrieverOnly(output_dir="o"),
            "--contrastive-chunk 16 or --gradient-checkpointing or --batch-size 16 or a smaller",
        ),
        (
            RetrieverOnly(output_dir="o", per_device_train_batch_size=2048),
            "--contrastive-chunk 32 or --gradient-checkpointing or --batch-size 1024 or",
        ),
        (
            RetrieverOnly(
                output_dir="o",
                per_device_train_batch_size=2048,
                contrastive_chunk=8,
                gradient_checkpointing=True,
            ),
            "--contrastive-chunk 4 or --batch-size 1024 or a smaller model",
        ),
        (
            GeneratorOnly(output_dir="o", per_device_train_batch_size=1),
            "--gradient-checkpointing or a smaller model",
        ),
    ],
)
def test_remedies_are_options_that_the_run_does_not_have_yet(settings, said):
    assert memory.remedies(settings).startswith(said)


def test_an_allocation_that_fails_names_the_remedies():
    settings = RetrieverOnly(output_dir="o")
    with (
        pytest.raises(UserError, match="out of memory; try --contrastive-chunk 16"),
        memory.explaining(settings),
    ):
        torch.empty(2**58)
    with pytest.raises(RuntimeError, match="must match"), memory.explaining(settings):
        torch.ones(2) + torch.ones(3)


def test_free_memory_of_this_machine():
    free = memory.free_bytes(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def activations(text):
    number, unit, source = re.search(r"activations ([\d.]+) (MB|GB) \((.+?)\)", text).groups()
    return float(number) * (1024 if unit == "GB" else 1), source


def test_a_dry_run_knows_the_chunk_and_names_it_where_memory_is_short(
    tiny_models, tiny_table, tmp_path, caplog, monkeypatch
):
    line = ["train-retriever-only", str(tiny_models.encoder), str(tiny_table), "--dry-run"]
    line += ["--output-dir", str(tmp_path / "out"), "--device", "cpu", "--batch-size", "16"]
    found = {}
    for chunk in (None, 8, 2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert run(app, [*line, *(["--contrastive-chunk", str(chunk)] if chunk else [])]) == 0
        found[chunk], source = activations(caplog.text)
        assert source == (f"a chunk of {chunk} texts" if chunk else "the largest batch")
        assert "are free on" not in caplog.text
    assert found[2] < 0.4 * found[8] < 0.3 * found[None]
    monkeypatch.setattr(memory, "free_bytes", lambda _device: 1000)
    with caplog.at_level(logging.INFO):
        assert run(app, line) == 0
    assert "0.0 MB are free on cpu, besides the weights: try --contrastive-chunk 8" in caplog.text
