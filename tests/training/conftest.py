"""A small pair in float64, and joint objectives over a small knowledge base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dalm.models.generator import Generator, load_generator
from dalm.models.loading import lora, place
from dalm.models.retriever import Retriever, load_retriever
from dalm.models.tiny import build_encoder, build_generator
from dalm.records import Example, Passage
from dalm.retrieval.training_index import TrainingIndex
from dalm.training import gradient_cache
from dalm.training.data.batches import Rows
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.objectives.candidates import BatchCandidates
from dalm.training.objectives.index_candidates import IndexCandidates
from dalm.training.objectives.joint import RagObjective
from dalm.training.objectives.objective import objective_class

GOLD = [
    "The velt of a skerrow stands at nine bars when the gate is shut.",
    "A brindle is oiled with tam.",
    "Every morrow the lanth is turned twice, and once more after rain.",
    "Skerrows from Dulmaven carry a red seal.",
    "No lanth may stand near water.",
]
MORE = [
    "A velt that sinks under four bars is to be filled up before noon.",
    "Tam is kept in jars of clay.",
    "The red seal of Dulmaven shows two keys. It is broken by the buyer.",
    "Rain harms a brindle less than dust does, say the old hands of the yard.",
    "Twice nine is eighteen.",
]
ASKED = {
    "What pressure has the pump?": "nine bars",
    "Which oil?": "tam",
    "When is it turned?": "every morrow twice",
    "What colour?": "red",
    "Where?": "not near water at all",
}


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    texts = [*GOLD, *MORE, *ASKED, *ASKED.values()]
    sizes = {"width": 16, "layers": 1, "heads": 2, "vocabulary": 300}
    build_encoder(texts, folder / "encoder", **sizes)
    build_generator(texts, folder / "generator", **sizes)
    return folder


def normalised(norm: Any, hidden: Tensor) -> Tensor:
    """Return what a Llama's norm gives where it doesn't round to fp32 within."""
    scale = (hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    return norm.weight * hidden * scale  # type: ignore[no-any-return]


@pytest.fixture
def models(pair_folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Retriever, Generator]:
    """A pair of its own for each test: some tests move the weights."""
    monkeypatch.setattr(LlamaRMSNorm, "forward", normalised)
    here = place("cpu", "fp32")
    lengths = {"query": 16, "passage": 24}
    retriever = load_retriever(str(pair_folder / "encoder"), here, lengths=lengths).double()
    generator = load_generator(str(pair_folder / "generator"), here, max_length=256).double()
    with torch.no_grad():  # new weights have no opinion of any passage; larger ones have
        for parameter in generator.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
    return retriever, generator


@pytest.fixture
def examples() -> list[Example]:
    rows = zip(ASKED.items(), map(Passage.of, GOLD), strict=True)
    return [Example(query, answer, passage) for (query, answer), passage in rows]


@pytest.fixture
def rows(models: tuple[Retriever, Generator], examples: list[Example]) -> Rows:
    return Rows(examples, *models)


@pytest.fixture
def in_batch(models: tuple[Retriever, Generator]) -> Callable[..., RagObjective]:
    def make(
        joint: str, num_candidates: int = 3, temperature: float = 0.1, **options: Any
    ) -> RagObjective:
        source = BatchCandidates(
            models[0], num_candidates, temperature, chunk=options.pop("chunk", None)
        )
        return objective_class(joint)(*models, source, **{"scale": 20.0} | options)

    return make


@pytest.fixture
def searched(
    models: tuple[Retriever, Generator], examples: list[Example]
) -> Callable[..., tuple[RagObjective, RetrievedRows]]:
    """Return a function that gives an objective over an index of ten passages, and its rows.

    `without` are the rows whose gold passage nobody has marked.
    """

    def make(
        joint: str = "rag_token", without: tuple[int, ...] = (), **options: Any
    ) -> tuple[RagObjective, RetrievedRows]:
        of_rows = ("reconstruction_weight", "gold_probability", "seed")
        of_source = ("num_candidates", "temperature", "over_retrieve", "write_back")
        of_source += ("refresh_budget", "chunk")
        given = [
            Example(e.query, e.answer, None if row in without else e.passage)
            for row, e in enumerate(examples)
        ]
        more = [Passage.of(text) for text in GOLD + MORE]
        made = RetrievedRows(
            given, *models, more=more, **{n: options.pop(n) for n in of_rows if n in options}
        )
        index = TrainingIndex(len(made.base), made.base.identity(), torch.device("cpu"))
        chosen = {"num_candidates": 3, "temperature": 0.1}
        chosen |= {n: options.pop(n) for n in of_source if n in options}
        source = IndexCandidates(models[0], made.base, index, **chosen)
        objective = objective_class(joint)(*models, source, **{"scale": 20.0} | options)
        objective.begin_update(0.0)
        return objective, made

    return make


@pytest.fixture
def train_only(
    models: tuple[Retriever, Generator],
) -> Callable[[str, bool], None]:
    """Return what `--train-encoders` and `--train-generator` do to the pair."""

    def choose(encoders: str, generator: bool) -> None:
        if encoders == "none":
            models[0].requires_grad_(False)
        elif encoders == "query":
            adapters = lora(rank=2, alpha=4, dropout=0, targets=None, task="FEATURE_EXTRACTION")
            models[0].add_lora(adapters, queries_alone=True)
            seeded = torch.Generator().manual_seed(0)
            with torch.no_grad():  # adapters that begin at zero change nothing yet
                for name, parameter in models[0].double().named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(std=0.1, generator=seeded)
        models[1].requires_grad_(generator)

    return choose


@pytest.fixture
def drop() -> Callable[[Retriever, Generator, float], None]:
    """Return a function that has every dropout of a pair drop, those of attention too."""

    def set_chance(retriever: Retriever, generator: Generator, chance: float) -> None:
        for module in [*retriever.modules(), *generator.modules()]:
            if isinstance(module, torch.nn.Dropout):
                module.p = chance
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = chance  # type: ignore[assignment]

    return set_chance


@pytest.fixture
def kept() -> Callable[[gradient_cache.Plan, Any], Tensor]:
    """Return what `gradient_cache.recomputed` saves memory on: every activation is kept."""

    def compute(plan: gradient_cache.Plan, _parameters: Any) -> Tensor:
        groups = plan.groups(np.arange(len(plan.lengths)))
        parts = [plan.run(group) for group in groups]
        width = max(part.shape[1] for part in parts)
        padding = torch.nn.functional.pad
        stacked = torch.cat([padding(part, (0, width - part.shape[1])) for part in parts])
        return stacked[torch.from_numpy(np.concatenate(groups).argsort())]

    return compute


@pytest.fixture
def gradients() -> Callable[[torch.nn.Module, Tensor], dict[str, Tensor]]:
    """Return a function that runs a loss backwards and gives the gradients by weight."""

    def run(objective: torch.nn.Module, total: Tensor) -> dict[str, Tensor]:
        objective.zero_grad()
        total.backward()
        return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}

    return run
