"""What trains, searches and answers has its tensors on one device: a GPU, as if there were one.

The values have to be those of the CPU, too. `tests/elsewhere.py` says what this can't show.
"""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from dalm.config import RagE2E
from dalm.io.examples import read_examples
from dalm.models.batching import to_device
from dalm.models.generator import load_generator
from dalm.models.loading import lora, place
from dalm.models.retriever import load_retriever
from dalm.rag.pipeline import answer
from dalm.retrieval.base import DenseSearcher
from dalm.retrieval.exact import build_index
from dalm.retrieval.training_index import TrainingIndex
from dalm.training.data.batches import Rows
from dalm.training.data.packing import PackedRows
from dalm.training.data.retrieved_rows import joint_rows
from dalm.training.data.sft_rows import SftRows
from dalm.training.objectives import joint as joint_objective
from dalm.training.objectives.causal_lm import CausalLM
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.objectives.objective import objective_class
from dalm.training.objectives.sft import SupervisedFineTuning
from tests.elsewhere import DEVICE, Elsewhere, elsewhere

OBJECTIVES = ("rag_token", "rag_sequence", "emdr2", "pdist", "lsr")
INDEX = {"candidates": "index", "num_candidates": 3, "write_back": True, "over_retrieve": 2}
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.fixture
def models(tiny_models):
    """With attention in plain steps: its fused kernel makes tensors behind any pretence."""
    here = place("cpu", "fp32")
    retriever = load_retriever(str(tiny_models.encoder), here)
    generator = load_generator(str(tiny_models.generator), here, max_length=128)
    for model in (retriever.model.transformers_model, generator.model):
        model.set_attn_implementation("eager")
    return retriever, generator


@pytest.fixture
def examples(tiny_table):
    return read_examples(tiny_table, RagE2E(output_dir="unused"), needs={"passage", "answer"})[:12]


def moved(*models):
    for model in models:
        model.to(DEVICE)
        model.placement = replace(model.placement, device=DEVICE)


def joint(models, examples, **options):
    """Return a joint objective as the command puts it together, and its rows."""
    settings = RagE2E(output_dir="unused", **options)
    rows = joint_rows(examples, [], *models, settings)
    index = None
    if settings.candidates == "index":
        index = TrainingIndex(len(rows.base), "", models[0].device)
    return objective_class(settings.objective).from_config(settings, rows, index), rows


def stepped(objective, batch):
    """Return what a step and a line of the log give, as plain numbers."""
    objective.begin_update(0.5)
    torch.manual_seed(0)
    loss = objective(to_device(batch, next(objective.parameters()).device))
    loss.total.backward()
    trained = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    norms = {name: gradient.norm().item() for name, gradient in trained.items()}
    parts = {name: part.item() for name, part in loss.parts.items()}
    seen = {name: f for name, f in objective.observe().items() if name != "refresh_seconds"}
    return {"loss": loss.total.item()} | parts | norms | seen


def same(make, models):
    """Take a step here, and the same step elsewhere; `make` returns objective and batch."""
    untouched = deepcopy(models)
    expected = stepped(*make(models))
    with elsewhere():
        moved(*untouched)
        objective, batch = make(untouched)
        assert isinstance(next(objective.parameters()), Elsewhere)
        found = stepped(objective, batch)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("objective", "source"),
    [("dalm", {}), *((name, source) for name in OBJECTIVES for source in ({}, INDEX))],
)
def test_the_objectives(models, examples, objective, source):
    def make(models):
        made, rows = joint(models, examples, objective=objective, **source)
        return made, rows.collate(range(4))

    same(make, models)


def test_statements_and_rows_without_a_gold_passage(models, examples):
    examples = [replace(e, passage=e.passage if i % 2 else None) for i, e in enumerate(examples)]

    def make(models):
        made, rows = joint(models, examples, reconstruction_weight=0.5, **INDEX)
        return made, rows.collate([*range(4), len(rows) - 1])

    same(make, models)


def test_queries_alone(models, examples):
    adapters = lora(rank=2, alpha=4, dropout=0, targets=None, task="FEATURE_EXTRACTION")
    models[0].add_lora(adapters, queries_alone=True)

    def make(models):
        made, rows = joint(
            models, examples, train_encoders="query", **INDEX | {"write_back": False}
        )
        return made, rows.collate(range(4))

    same(make, models)


@pytest.mark.parametrize("options", [{}, {"chunk": 2, "dims": [8]}])
def test_the_retriever_alone(models, examples, options):
    def make(models):
        rows = Rows(examples, models[0])
        return Contrastive(models[0], 20.0, **options), rows.collate(range(4))

    same(make, models)


def test_the_generator_alone(models, examples):
    def make(models):
        rows = SftRows(examples, models[1], reader_passages=2)
        return SupervisedFineTuning.of(rows), rows.collate(range(4))

    same(make, models)


@pytest.mark.parametrize("way", [None, "positions", "mask", "apart"])
def test_pretraining(models, examples, way):
    def make(models):
        texts = models[1].tokenise([example.passage.text for example in examples])
        rows = PackedRows(texts, 64)
        return CausalLM(models[1], way=way), rows.collate(range(2))

    same(make, models)


def test_searching_and_answering(models, examples):
    def found():
        passages = [example.passage for example in examples]
        queries = [example.query for example in examples]
        index = build_index(models[0], passages)
        hits = DenseSearcher(models[0], index).search(queries, 3)
        answers = answer(models[1], queries, hits, reader_passages=2, max_new_tokens=4)
        return [[hit.passage.id for hit in row] for row in hits], [each.text for each in answers]

    expected = found()
    with elsewhere():
        moved(*models)
        assert found() == expected


# What the pretence is worth


def test_a_forgotten_tensor_is_refused(models, examples, monkeypatch):
    with elsewhere():
        moved(*models)
        objective, rows = joint(models, examples, **INDEX)
        monkeypatch.setattr(joint_objective, "to_device", lambda batch, device: batch)
        with pytest.raises(RuntimeError, match="not all tensors are on cuda:0"):
            stepped(objective, rows.collate(range(4)))


def test_tensors_elsewhere_meet_none_from_here_but_numbers_and_indices():
    here = torch.arange(6.0).view(2, 3)
    with elsewhere():
        there = here.to(DEVICE)
        assert there.device == torch.zeros(2, device=DEVICE).device == DEVICE
        assert (there * torch.tensor(2.0)).tolist() == (2 * here).tolist()
        assert there[torch.tensor([1])].tolist() == [[3, 4, 5]]
        assert torch.equal(there.cpu(), here)
        there[0] = 7
        assert there.sum().item() == 33
        for meet in (torch.add, torch.mul, torch.dot):
            with pytest.raises(RuntimeError, match="not all tensors"):
                meet(there[0], here[0])
        with pytest.raises(RuntimeError, match="not all tensors"):
            here[torch.tensor([1], device=DEVICE)]
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
