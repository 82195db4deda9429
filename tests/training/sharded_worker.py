"""Train tiny models in float64 as one of several processes, sharded or not, and resume.

A case is a kind of training. Each run writes its metrics, its checkpoint of the second of three
updates, and its gathered weights into a folder of its own.
"""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate.state import AcceleratorState
from torch.distributed.tensor import DTensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dalm import config, distributed
from dalm.models.generator import load_generator
from dalm.models.loading import lora, place
from dalm.models.reranker import load_reranker
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage, ScoredCandidate, ScoredQuestion
from dalm.retrieval.training_index import TrainingIndex
from dalm.training import resumption
from dalm.training.data.batches import Rows
from dalm.training.data.corpus import documents
from dalm.training.data.labelled_candidates import LabelledCandidates
from dalm.training.data.packing import PackedRows
from dalm.training.data.reranker_rows import RerankerRows
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.data.scored_rows import ScoredRows
from dalm.training.data.sft_rows import SftRows
from dalm.training.held_out_evaluation import HeldOutEvaluation
from dalm.training.objectives.candidates import BatchCandidates
from dalm.training.objectives.causal_lm import CausalLM
from dalm.training.objectives.index_candidates import IndexCandidates
from dalm.training.objectives.objective import objective_class
from dalm.training.objectives.reranker_objective import Reranking
from dalm.training.objectives.sft import SupervisedFineTuning
from dalm.training.trainer import train

CPU = place("cpu", "fp32")
BATCH, UPDATES, KEPT = 4, 3, 2
"""Rows of all processes' batch, updates, and the update whose checkpoint is kept."""


def examples() -> list[Example]:
    """Return twelve rows of unlike lengths, so that processes have unlike micro-batches."""
    return [
        Example(
            f"Where does {'the old ' * (n % 3)}number {n} live?",
            f"In {'the ' * (n % 4)}town {n * 7 % 5}",
            Passage.of(f"Number {n} lives in town {n * 7 % 5}" + ", behind a hill" * (n % 5)),
        )
        for n in range(12)
    ]


def texts() -> list[str]:
    return [text for e in examples() for text in (e.query, e.answer, e.passage.text)]


class Models:
    """Load the tiny models: in float64, and with adapters if they are asked for."""

    def __init__(self, folder, adapted=False, checkpointed=False) -> None:
        self.folder, self.adapted, self.checkpointed = folder, adapted, checkpointed

    def retriever(self):
        return self._prepared(load_retriever(f"{self.folder}/encoder", CPU), "FEATURE_EXTRACTION")

    def generator(self):
        loaded = load_generator(f"{self.folder}/generator", CPU, max_length=200)
        return self._prepared(loaded, "CAUSAL_LM")

    def _prepared(self, model, task):
        if self.adapted:
            model.add_lora(lora(rank=2, alpha=4, dropout=0.0, targets=None, task=task))
            seeded = torch.Generator().manual_seed(0)
            for name, parameter in model.named_parameters():
                if "lora" in name:
                    parameter.data.normal_(std=0.2, generator=seeded)
        if self.checkpointed:
            model.checkpoint_activations()
        return model.double()


def contrast(models, _folder, **options):
    retriever = models.retriever()
    objective = objective_class("contrastive")(retriever, 20.0, **options)
    return objective, Rows(examples(), retriever)


def listwise(models, _folder):
    rows = examples()
    near = [[rows[(n + k) % len(rows)].passage for k in range(3)] for n in range(len(rows))]
    questions = [
        ScoredQuestion(e.query, e.answer, tuple(map(ScoredCandidate, some, (1.0, 0.5, 0.2))), *gold)
        for e, some in zip(rows, near, strict=True)
        for gold in [(some[0], tuple(some[1:]))]
    ]
    retriever = models.retriever()
    options = {"num_candidates": 3, "target_temperature": 0.5, "contrasts": True, "seed": 1}
    objective = objective_class("listwise")(retriever, scale=20.0, contrastive_weight=0.5)
    return objective, ScoredRows(questions, retriever, **options)


def in_batch(models, _folder, joint):
    retriever, generator = models.retriever(), models.generator()
    source = [] if joint == "dalm" else [BatchCandidates(retriever, 3, 0.1)]
    objective = objective_class(joint)(retriever, generator, *source, scale=20.0)
    return objective, Rows(examples(), retriever, generator, seed=1)


def over_an_index(models, _folder, joint, **options):
    retriever, generator = models.retriever(), models.generator()
    more = [Passage.of("Nobody lives in the old mill.")]
    rows = RetrievedRows(examples(), retriever, generator, more=more, seed=1)
    index = TrainingIndex(len(rows.base), rows.base.identity(), torch.device("cpu"))
    source = IndexCandidates(
        *(retriever, rows.base, index),
        **{"num_candidates": 3, "temperature": 0.1, "over_retrieve": 2, "write_back": True},
        refresh_budget=1.0,
    )
    return objective_class(joint)(retriever, generator, source, scale=20.0, **options), rows


def sft(models, _folder):
    rows = SftRows(examples(), models.generator(), reader_passages=2, seed=1)
    return SupervisedFineTuning(rows.generator, 2), rows


def pretraining(models, folder):
    """With the best weights by held-out text, which every other update improves."""
    generator = models.generator()
    packed = PackedRows(documents(generator, texts(), ends=True), 48, ranks=BATCH)
    objective = CausalLM(generator)
    settings = config.Pretraining(
        output_dir=str(folder), sequence_length=48, evaluation_steps=1, patience=None
    )
    held_out = SimpleNamespace(held_out_domain=texts()[:5], held_out_general=[])
    objective.evaluation = HeldOutEvaluation(objective, held_out, settings)
    return objective, packed


def reranking(models, _folder):
    reranker = load_reranker(f"{models.folder}/reranker", CPU, to_train=True).double()
    rows = examples()
    questions = [
        LabelledCandidates(
            e.query, (e.passage.text, rows[(n + 1) % len(rows)].passage.text), (1.0, 0.0)
        )
        for n, e in enumerate(rows)
    ]
    return Reranking(reranker, "binary"), RerankerRows(questions, reranker, num_candidates=2)


CASES = {
    "contrastive": (contrast, {}, {}),
    "in chunks, adapted": (contrast, {"chunk": 2, "dims": [8]}, {"adapted": True}),
    "listwise": (listwise, {}, {"checkpointed": True}),
    "dalm": (in_batch, {"joint": "dalm"}, {}),
    "rag_token": (in_batch, {"joint": "rag_token"}, {"checkpointed": True}),
    "pdist, adapted": (in_batch, {"joint": "pdist"}, {"adapted": True, "checkpointed": True}),
    "index": (over_an_index, {"joint": "rag_sequence"}, {}),
    "index, warm": (over_an_index, {"joint": "emdr2", "reader_warmup": 0.4}, {}),
    "sft": (sft, {}, {"adapted": True}),
    "pretraining": (pretraining, {}, {}),
    "reranking": (reranking, {}, {}),
}


OFFLOADED = ("sft",)
"""Cases whose shards are kept in the CPU's memory, which here is the device's."""


def fit(models: Path, folder: Path, case: str, shard: str, resume: Path | None) -> None:
    """Train three updates, or from a checkpoint on, and write what came out."""
    make, options, of_models = CASES[case]
    torch.manual_seed(0)
    objective, rows = make(Models(models, **of_models), folder, **options)
    settings = config.RetrieverOnly(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH // distributed.world_size(),
        max_train_steps=UPDATES,
        checkpointing_steps=KEPT,
        logging_steps=1,
        learning_rate=1e-2,
        weight_decay=0.1,
        shard=shard,
        cpu_offload=shard != "none" and case in OFFLOADED,
        device="cpu",
    )
    folder.mkdir(parents=True, exist_ok=True)
    record = resumption.record(settings, objective, [rows])
    evaluation = getattr(objective, "evaluation", None)
    callbacks = [] if evaluation is None else [evaluation]
    sharded = train(
        objective, rows, settings, CPU, record=record, checkpoint=resume, callbacks=callbacks
    )
    held = sum(p.to_local().numel() for p in objective.parameters() if isinstance(p, DTensor))
    all_of_it = sum(p.numel() for p in objective.parameters())
    if evaluation is not None:
        evaluation.finish()
    if sharded is not None:
        sharded.gather()
    if distributed.is_main():
        models = torch.nn.ModuleDict(objective.models())
        weights = {name: p.detach() for name, p in models.named_parameters()}
        torch.save({"weights": weights, "held": held / all_of_it}, folder / "found.pt")
        objective.export(folder / "export")


def normalise(norm: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
    """Return what LlamaRMSNorm gives, which rounds its gradients to fp32, in float64.

    Prompts that begin alike share rows, others in two processes than in one: so do their roundings.
    """
    size = hidden.square().mean(-1, keepdim=True) + norm.variance_epsilon
    return norm.weight * (hidden * size.rsqrt())


def run(models: Path, folder: Path, steps: Iterable[tuple[str, str, str, Path | None]]) -> int:
    """Run (name, case, how it is sharded, the checkpoint that it is resumed from) in turn."""
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")  # of libraries; in pytest they are errors
    LlamaRMSNorm.forward = normalise  # in this process alone
    AcceleratorState._reset_state(reset_partial_state=True)  # of the process that was forked
    for name, case, shard, resume in steps:
        fit(models, folder / name, case, shard, resume)
    distributed.leave()
    return 0
