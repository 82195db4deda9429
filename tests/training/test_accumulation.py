"""Accumulated batches give the large batch's gradient; rates, decay and schedules reach AdamW."""

import json
import math
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import get_args, get_type_hints

import pytest
import torch
from transformers import TrainerCallback

from dalm.config import Optimisation, RagE2E
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
from dalm.training.objectives.candidates import BatchCandidates
from dalm.training.objectives.dalm_loss import DalmObjective
from dalm.training.objectives.objective import objective_class
from dalm.training.trainer import ObjectiveTrainer, arguments, train

CPU = place("cpu", "fp32")
RATE = 1e-2


class Gradients(TrainerCallback):
    """Keep the gradients of the last update."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.found = {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }


@pytest.fixture(scope="module")
def examples(tiny_rows):
    """Seven rows whose answers differ in length, so that a mean of means is not the mean."""
    answers = ["a", "in Ulm", "two cats and a very old horse", "no", "one owl", "a red fox", "?"]
    chosen = zip(tiny_rows[::2], answers, strict=False)
    return [Example(row["Query"], answer, Passage.of(row["Passage"])) for row, answer in chosen]


@pytest.fixture
def prepare(tiny_models, examples, tmp_path):
    """Return a function that gives an objective in float64, its rows and settings."""

    def prepare(**options):
        options = {"contrastive_weight": 0.0, "num_candidates": 1, "max_train_steps": 1} | options
        settings = RagE2E(
            **{"output_dir": str(tmp_path), "learning_rate": RATE, "logging_steps": 1} | options
        )
        generator = load_generator(str(tiny_models.generator), CPU, max_length=128)
        retriever = load_retriever(str(tiny_models.encoder), CPU)
        shared = {"scale": 20.0, "contrastive_weight": settings.contrastive_weight}
        if settings.objective == "dalm":
            objective = DalmObjective(retriever, generator, **shared)
        else:
            source = BatchCandidates(retriever, settings.num_candidates, 0.1)
            shared |= {"reader_warmup": settings.reader_warmup}
            objective = objective_class(settings.objective)(retriever, generator, source, **shared)
        return objective.double(), Rows(examples, retriever, generator), settings

    return prepare


def gradients(objective, rows, settings):
    trainer = ObjectiveTrainer(objective, rows, arguments(settings, CPU, []), {}, {})
    kept = Gradients()
    trainer.add_callback(kept)
    trainer.train()
    return kept.found


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["rag_token", "rag_sequence", "dalm"])
@pytest.mark.parametrize(("size", "accumulated"), [(4, 2), (3, 3), (2, 4)])
def test_accumulated_batches_give_the_gradient_of_the_large_batch(
    prepare, objective, size, accumulated
):
    shared = {"objective": objective, "max_grad_norm": 0.0}
    whole = gradients(*prepare(per_device_train_batch_size=7, **shared))
    parts = gradients(
        *prepare(
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulated, **shared
        )
    )
    # The retriever's part of `dalm` is over the batch's passages, which a small batch has fewer of.
    compared = [name for name in whole if name.startswith("generator.")]
    assert any(whole[name].abs().max() > 1e-3 for name in compared)
    for name in compared:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-9, atol=1e-12)


def test_every_row_of_an_accumulated_epoch_is_trained_on(prepare, tmp_path):
    train(
        *prepare(
            **{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3},
            **{"max_train_steps": None, "num_train_epochs": 2},
        ),
        CPU,
    )
    lines = metrics(tmp_path)  # 7 rows: batches of 2, 2, 2, then 1 alone
    assert [(line["step"], line["epoch"]) for line in lines] == [
        *((1, 0.75), (2, 1.0)),
        *((3, 1.75), (4, 2.0)),
    ]


def test_weight_decay_shrinks_matrices_and_nothing_else(prepare):
    """With one candidate and no contrast the retriever's gradient is 0: only decay moves it."""
    objective, rows, settings = prepare(weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in objective.retriever.named_parameters()}
    train(objective, rows, settings, CPU)
    for name, parameter in objective.retriever.named_parameters():
        decays = parameter.ndim > 1 and parameter.requires_grad
        factor = 1 - RATE * 0.5 if decays else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name])


class Weights(TrainerCallback):
    """Keep every model's weights before the first update and after each."""

    def __init__(self, objective):
        self.models = objective.models()
        self.kept = []

    def on_train_begin(self, *args, **kwargs):
        self.kept.append({k: deepcopy(m.state_dict()) for k, m in self.models.items()})

    on_step_end = on_train_begin

    def moved(self, name):
        """Return in which updates a model moved at all."""
        pairs = pairwise(kept[name] for kept in self.kept)
        return [any(not torch.equal(old[k], new[k]) for k in old) for old, new in pairs]


@pytest.mark.parametrize("joint", ["rag_token", "pdist"])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_frozen_retriever_stays_to_the_bit_under_weight_decay(prepare, joint, accumulated):
    """Half of four updates warm the reader up; a momentum of before doesn't move it either."""
    options = {"objective": joint, "reader_warmup": 0.5, "weight_decay": 0.5}
    options |= {"contrastive_weight": 1.0, "num_candidates": 2, "max_train_steps": 4}
    objective, rows, settings = prepare(
        per_device_train_batch_size=2, gradient_accumulation_steps=accumulated, **options
    )
    trainer = ObjectiveTrainer(objective, rows, arguments(settings, CPU, []), {}, {})
    weights = Weights(objective)
    trainer.add_callback(weights)
    trainer.train()
    assert weights.moved("retriever") == [False, False, True, True]
    assert weights.moved("generator") == [True] * 4


def test_every_trained_weight_is_in_one_group_with_its_models_rate(prepare):
    objective, rows, settings = prepare(weight_decay=0.1)
    trainer = ObjectiveTrainer(
        objective, rows, arguments(settings, CPU, []), {"generator": 3 * RATE}, {}
    )
    groups = trainer.create_optimizer().param_groups
    assert {(group["name"], group["lr"]) for group in groups} == {
        ("retriever", RATE),
        ("generator", 3 * RATE),
    }
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
        model = objective.models()[group["name"]]
        assert {id(p) for p in group["params"]} <= {id(p) for p in model.parameters()}
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in objective.parameters() if p.requires_grad)


def test_a_models_own_rate_is_followed(prepare, tmp_path):
    objective, rows, settings = prepare(max_train_steps=3)
    before = {name: p.detach().clone() for name, p in objective.generator.named_parameters()}
    train(objective, rows, settings, CPU, rates={"generator": 1e-30})
    for name, parameter in objective.generator.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=1e-20)
    for line in metrics(tmp_path):
        assert line["generator_learning_rate"] == pytest.approx(
            1e-30 / RATE * line["retriever_learning_rate"]
        )


STEPS = 4
SCHEDULES = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "cosine_with_restarts": lambda done: (1 + math.cos(math.pi * done)) / 2,  # of one cycle
    "polynomial": lambda done: 1 - done + 1e-7 / RATE * done,  # of power 1, to 1e-7
    "constant": lambda done: 1.0,
    "constant_with_warmup": lambda done: 1.0,
}


def test_all_schedules_are_known_here():
    hint = get_type_hints(Optimisation)["lr_scheduler_type"]
    assert set(get_args(hint)) == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(prepare, tmp_path, name):
    warm = 0 if name == "constant" else 2
    objective, rows, settings = prepare(max_train_steps=STEPS + warm)
    train(objective, rows, replace(settings, lr_scheduler_type=name, num_warmup_steps=warm), CPU)
    rates = [line["retriever_learning_rate"] / RATE for line in metrics(tmp_path)]
    after = [SCHEDULES[name](step / STEPS) for step in range(STEPS)]
    assert rates == pytest.approx([step / warm for step in range(warm)] + after, rel=1e-6)


def test_gradients_are_clipped_and_zero_leaves_them_alone(prepare):
    def norm(limit):
        found = gradients(*prepare(max_grad_norm=limit)).values()
        return torch.stack([g.norm() for g in found]).norm().item()

    free = norm(0.0)
    assert norm(free / 3) == pytest.approx(free / 3, rel=1e-4)
