"""Vectors in chunks give the gradient of the whole batch; cut vectors, the mean of the losses."""

import json
import logging
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import TrainerCallback

from dalm.cli import app, run
from dalm.config import RetrieverOnly
from dalm.errors import UserError
from dalm.models.loading import lora, place
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage
from dalm.training import gradient_cache
from dalm.training.data.batches import Rows
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.objectives.retriever_objective import KINDS
from dalm.training.trainer import ObjectiveTrainer, arguments

CHUNKS = [1, 2, 3, 100]


@pytest.fixture
def batch(examples, models):
    """Five questions, one with a hard negative, two that share a passage."""
    first, *others, last = examples
    hard = replace(first, negatives=(Passage.of("Twice nine is eighteen."),))
    same = Example(last.query, last.answer, Passage.of(others[0].passage.text.upper()))
    return Rows([hard, *others, same], models[0]).collate(range(5))


def equal(found, expected, tolerance=1e-12):
    """Compare gradients by the largest difference relative to the largest gradient."""
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert largest > 1e-3
    worst = max((found[name] - expected[name]).abs().max() for name in expected)
    assert worst <= tolerance * largest, worst / largest


def differ(found, expected, least):
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert max((found[n] - expected[n]).abs().max() for n in expected) > least * largest


@pytest.mark.parametrize("dims", [None, [4, 9]])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_chunks_give_the_loss_and_the_gradient_of_the_whole_batch(
    models, batch, gradients, chunk, dims
):
    whole = Contrastive(models[0], 20.0, dims=dims)
    parts = Contrastive(models[0], 20.0, chunk=chunk, dims=dims)
    expected, found = whole(batch), parts(batch)
    torch.testing.assert_close(found.total, expected.total, rtol=1e-13, atol=0)
    assert found.tokens == expected.tokens
    assert found.tokens <= found.padded_tokens <= expected.padded_tokens
    assert chunk > 1 or found.padded_tokens == found.tokens
    assert expected.padded_tokens == sum(batch[kind]["input_ids"].numel() for kind in KINDS)
    assert found.parts.keys() == expected.parts.keys()
    equal(gradients(parts, found.total), gradients(whole, expected.total))


def test_a_chunk_holds_texts_of_one_kind_and_no_more_than_it_may(models, batch, monkeypatch):
    seen = []
    embed = type(models[0]).embed

    def noting(self, features, kind):
        seen.append((kind, *features["input_ids"].shape, torch.is_grad_enabled()))
        assert features["attention_mask"].any(0).all(), "no column is padding alone"
        return embed(self, features, kind)

    monkeypatch.setattr(type(models[0]), "embed", noting)
    loss = Contrastive(models[0], 20.0, chunk=2)(batch).total
    assert [(kind, rows) for kind, rows, *_ in seen] == [
        *[("query", 2), ("query", 2), ("query", 1)],
        *[("passage", 2)] * 3,
    ]
    assert not any(with_gradient for *_, with_gradient in seen)
    first = [tuple(call[:3]) for call in seen]
    seen.clear()
    loss.backward()
    assert [tuple(call[:3]) for call in seen] == first
    assert all(with_gradient for *_, with_gradient in seen)


# Dropout


@pytest.fixture
def dropping(models, drop):
    drop(*models, 0.3)
    return models[0].train()


def seeded(seed, objective, batch, gradients):
    torch.manual_seed(seed)
    return gradients(objective, objective(batch).total)


def test_dropout_is_that_of_the_same_chunks_with_every_activation_kept(
    dropping, batch, gradients, kept, monkeypatch
):
    objective = Contrastive(dropping, 20.0, chunk=2, dims=[8])
    found = seeded(0, objective, batch, gradients)
    with monkeypatch.context() as patched:
        patched.setattr(gradient_cache, "recomputed", kept)
        equal(found, seeded(0, objective, batch, gradients))
        differ(found, seeded(1, objective, batch, gradients), least=0.05)


def test_other_masks_in_the_second_pass_would_be_a_wrong_gradient(
    dropping, batch, gradients, kept, monkeypatch
):
    """So the test above can tell: this is what caching without the replay computes."""
    objective = Contrastive(dropping, 20.0, chunk=2)
    with monkeypatch.context() as patched:
        patched.setattr(gradient_cache, "recomputed", kept)
        expected = seeded(0, objective, batch, gradients)
    monkeypatch.setattr(gradient_cache, "_drawing_from", lambda _state: nullcontext())
    differ(seeded(0, objective, batch, gradients), expected, least=0.05)


def test_a_batch_draws_the_same_random_numbers_after_its_second_pass(dropping, batch):
    """The second pass leaves the generator where the first left it: the next batch's masks."""
    torch.manual_seed(0)
    loss = Contrastive(dropping, 20.0, chunk=2)(batch).total
    state = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), state)


# Adapters, checkpointed activations, precision, towers


def adapted(retriever, dropout):
    retriever.add_lora(
        lora(rank=2, alpha=4, dropout=dropout, targets=None, task="FEATURE_EXTRACTION")
    )
    with torch.no_grad():  # adapters that begin at zero pass no gradient to their first half
        for name, parameter in retriever.double().named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    return retriever.train()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_adapters_and_checkpointed_activations(
    models, batch, gradients, kept, drop, monkeypatch, checkpointing, dropout
):
    drop(*models, 0.0)
    retriever = adapted(models[0], dropout)
    if checkpointing:
        retriever.checkpoint_activations()
    found = seeded(0, Contrastive(retriever, 20.0, chunk=2), batch, gradients)
    assert all("lora" in name for name in found)
    monkeypatch.setattr(gradient_cache, "recomputed", kept)
    equal(found, seeded(0, Contrastive(retriever, 20.0, chunk=2), batch, gradients))
    if not dropout:
        equal(found, seeded(0, Contrastive(retriever, 20.0), batch, gradients))


def test_bf16_rounds_the_chunks_as_one_graph_of_them_does(
    models, batch, gradients, kept, monkeypatch
):
    objective = Contrastive(models[0].float(), 20.0, chunk=2)

    def computed():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            total = objective(batch).total
        return gradients(objective, total)

    found = computed()
    monkeypatch.setattr(gradient_cache, "recomputed", kept)
    equal(found, computed(), tolerance=0.02)


@pytest.fixture
def towers(pair_folder, tmp_path):
    """Two encoders: one for queries, one for passages."""
    made = []
    for _ in range(2):
        tower = Transformer(str(pair_folder / "encoder"))
        made.append([tower, Pooling(16, pooling_mode="mean")])
    with torch.no_grad():
        for parameter in made[1][0].parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model = SentenceTransformer(modules=[Router.for_query_document(*made)], device="cpu")
    model.save(str(tmp_path / "towers"), create_model_card=False)
    return load_retriever(str(tmp_path / "towers"), place("cpu", "fp32")).double()


def test_towers_for_queries_and_passages(towers, batch, gradients):
    whole, parts = Contrastive(towers, 20.0), Contrastive(towers, 20.0, chunk=2)
    expected = gradients(whole, whole(batch).total)
    assert {name.split(".")[4] for name in expected} == {"query", "document"}
    equal(gradients(parts, parts(batch).total), expected)


def test_passages_without_adapters_take_no_gradient(models, batch, gradients, train_only):
    train_only("query", True)
    retriever = models[0]
    whole, parts = Contrastive(retriever, 20.0), Contrastive(retriever, 20.0, chunk=2)
    equal(gradients(parts, parts(batch).total), gradients(whole, whole(batch).total))


# Accumulation


class Gradients(TrainerCallback):
    """Keep the gradients of the last update."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("accumulated", [1, 2])
def test_chunks_in_the_trainer(models, rows, tmp_path, accumulated):
    """Five rows: one batch of five, or of three and of two, accumulated."""
    found = []
    for chunk in (None, 2):
        settings = RetrieverOnly(
            **{"output_dir": str(tmp_path), "max_train_steps": 1, "learning_rate": 1e-12},
            **{"per_device_train_batch_size": 5 // accumulated + accumulated - 1},
            **{"gradient_accumulation_steps": accumulated, "max_grad_norm": 0.0},
        )
        objective = Contrastive(models[0], 20.0, chunk=chunk)
        given = arguments(settings, place("cpu", "fp32"), [])
        trainer = ObjectiveTrainer(objective, rows, given, {}, {})
        trainer.args.save_strategy = "no"
        kept = Gradients()
        trainer.add_callback(kept)
        trainer.train()
        found.append(kept.found)
    equal(found[1], found[0], tolerance=1e-8)  # the first update moved the weights by 1e-12


# Matryoshka


def test_matryoshka_is_the_mean_over_cut_and_normalised_vectors(models, batch, gradients):
    objective = Contrastive(models[0], 20.0, dims=[4, 8])
    found = objective(batch)
    by_query = batch["false_negatives"]["by_query"]
    queries, passages = (models[0].embed(batch[kind], kind) for kind in ("query", "passage"))
    losses = {}
    for dim in (16, 4, 8):
        q = queries[:, :dim] / queries[:, :dim].norm(dim=1, keepdim=True)
        p = passages[:, :dim] / passages[:, :dim].norm(dim=1, keepdim=True)
        scores = (20 * q @ p.T).masked_fill(by_query, float("-inf"))
        back = scores[:, :5].T
        losses[dim] = (F.cross_entropy(scores, OWN) + F.cross_entropy(back, OWN)) / 2
    expected = sum(losses.values()) / 3
    torch.testing.assert_close(found.total, expected, rtol=1e-13, atol=0)
    assert {k: v.item() for k, v in found.parts.items() if k != "in_batch_accuracy"} == {
        "info_nce": pytest.approx(losses[16].item()),
        "loss_4": pytest.approx(losses[4].item()),
        "loss_8": pytest.approx(losses[8].item()),
    }
    assert len({round(loss.item(), 6) for loss in losses.values()}) == 3
    equal(gradients(objective, found.total), gradients(objective, expected))


OWN = torch.arange(5)


def test_vectors_are_computed_once_for_all_sizes(models, batch, monkeypatch):
    calls = []
    embed = type(models[0]).embed
    monkeypatch.setattr(
        type(models[0]), "embed", lambda self, *given: calls.append(1) or embed(self, *given)
    )
    Contrastive(models[0], 20.0, dims=[4, 8])(batch)
    assert len(calls) == 2


def test_dot_products_are_cut_without_normalising(models):
    retriever = models[0]
    vectors = torch.tensor([[3.0, 4.0, 12.0]])
    assert retriever.cut(vectors, 2).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    retriever.model.similarity_fn_name = "dot"
    assert retriever.cut(vectors, 2).tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        ([4, 17], "--matryoshka-dims 17: .* have 16 dimensions.*from 1 to 15"),
        ([16], "--matryoshka-dims 16: .* have 16 dimensions, which are trained anyway"),
        ([0], "--matryoshka-dims 0: "),
        ([4, 8, 4], "--matryoshka-dims 4 is given twice"),
    ],
)
def test_sizes_that_vectors_cannot_be_cut_to_are_refused(models, dims, said):
    with pytest.raises(UserError, match=said):
        Contrastive(models[0], 20.0, dims=dims)


def test_vectors_pooled_side_by_side_are_not_cut(pair_folder, tmp_path):
    modules = [Transformer(str(pair_folder / "encoder")), Pooling(16, pooling_mode=("cls", "mean"))]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path), create_model_card=False)
    retriever = load_retriever(str(tmp_path), place("cpu", "fp32"))
    with pytest.raises(UserError, match=r"--matryoshka-dims: .* several pooled ones side by side"):
        Contrastive(retriever, 20.0, dims=[8])
    Contrastive(retriever, 20.0)


# The command


@pytest.mark.parametrize("option", [["--contrastive-chunk", "0"], ["--matryoshka-dims", "8", "0"]])
def test_sizes_below_one_are_refused_before_anything_is_read(option, capsys):
    line = ["train-retriever-only", "no/model", "no/table.csv", "--output-dir", "out", *option]
    assert run(app, line) == 2
    assert f"{option[0]} 0: must be a number of at least 1" in capsys.readouterr().err


def test_a_trained_retriever_says_what_its_vectors_can_be_cut_to(
    tiny_models, tiny_table, tmp_path, caplog
):
    table, out = str(tiny_table), tmp_path / "out"
    line = ["train-retriever-only", str(tiny_models.encoder), table, "--output-dir", str(out)]
    line += "--epochs 1 --batch-size 8 --contrastive-chunk 3 --matryoshka-dims 8 4".split()
    assert run(app, [*line, "--device", "cpu"]) == 0
    last = (out / "metrics.jsonl").read_text().splitlines()[-1]
    assert {"loss_8", "loss_4", "info_nce"} <= json.loads(last).keys()
    saved = json.loads((out / "retriever" / "dalm.json").read_text())
    assert saved["matryoshka_dims"] == [8, 4]
    card = (out / "retriever" / "README.md").read_text()
    assert "cut to their first 4, 8 dimensions (Matryoshka)" in card
    again = load_retriever(str(out / "retriever"), place("cpu", "fp32"))
    assert again.matryoshka_dims == (8, 4)

    small = tmp_path / "small"
    SentenceTransformer(str(out / "retriever"), truncate_dim=8).save_pretrained(str(small))
    evaluated = ["eval-retriever", table, "--retriever-name-or-path", str(small), "--no-cache"]
    evaluated += ["--output-dir", str(tmp_path / "evaluation")]
    with caplog.at_level(logging.INFO):
        assert run(app, [*evaluated, "--device", "cpu"]) == 0
    assert "8 dimensions" in caplog.text


def test_training_without_the_sizes_forgets_them(tiny_models, tiny_table, tmp_path):
    made = load_retriever(str(tiny_models.encoder), place("cpu", "fp32"))
    made.matryoshka_dims = (8,)
    made.export(tmp_path / "before")
    line = ["train-retriever-only", str(tmp_path / "before"), str(tiny_table), "--device", "cpu"]
    assert run(app, [*line, "--max-train-steps", "1", "--output-dir", str(tmp_path / "out")]) == 0
    assert "matryoshka_dims" not in (tmp_path / "out/retriever/dalm.json").read_text()
