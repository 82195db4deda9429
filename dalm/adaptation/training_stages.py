"""The stages that train: retriever and generator one after the other, or both in one run."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalm.adaptation.question_tables import ANSWERS
from dalm.adaptation.stages import Stage
from dalm.adaptation.system import System
from dalm.io.tables import read_table
from dalm.models.loading import place

logger = logging.getLogger(__name__)

RETRIEVER: Mapping[str, Any] = {"per_device_train_batch_size": 16, "learning_rate": 3e-5}
"""What docs/experiments.md measured for pretrained encoders, with about 96 updates."""
MANY_QUESTIONS = 1_000
"""Questions from which on one epoch has nearly as many updates; of fewer, two."""
GENERATOR: Mapping[str, Any] = {"use_peft": True, "per_device_train_batch_size": 8}


def training_stages(system: System) -> list[Stage]:
    """Return the recipe's trainings."""
    if system.is_joint:
        return [_pair_stage(system)]
    return [_retriever_stage(system), _generator_stage(system)]


def passages_read(system: System) -> int:
    """Return how many passages the generator is trained to read."""
    if system.is_joint:
        return int(_pair_stage(system).options.reader_passages)
    return int(_generator_stage(system).options.reads())


def _training(system: System, name: str, command: str, folder: str, **described: Any) -> Stage:
    paths = {"output_dir": str(system.folder / folder), "overwrite_output_dir": True}
    paths |= described.pop("paths", {})
    return system.command(name, command, folder, paths=paths, **described)


def _retriever_stage(system: System) -> Stage:
    base = system.pairs.untuned.retriever
    return _training(
        system,
        "retriever",
        "train-retriever-only",
        "retriever",
        arguments=[base, str(system.mined)],
        options={**RETRIEVER, "num_train_epochs": _epochs(system)},
        reads={"questions": system.mined, "retriever": base},
        writes=[Path(system.tuned.retriever)],
    )


def _epochs(system: System) -> int:
    return 1 if system.trained_questions() >= MANY_QUESTIONS else 2


def _generator_stage(system: System) -> Stage:
    base, table = system.pairs.untuned.generator, system.tables / ANSWERS
    device = system.settings.device
    options = dict(GENERATOR)
    paths: dict[str, Any] = {}
    reads: dict[str, Any] = {}
    if place(device, "auto").device.type == "cpu":
        options["reader_passages"] = 1  # four take four times as long
    else:
        paths = {"retriever_name_or_path": system.tuned.retriever}
        paths["passages"] = [str(system.passages)]
        reads = {"tuned retriever": system.tuned.retriever, "passages": system.passages}
    return _training(
        system,
        "generator",
        "train-generator-only",
        "generator",
        arguments=[str(table), base],
        options=options,
        paths=paths,
        reads={"questions": table, "generator": base, **reads},
        writes=[Path(system.tuned.generator)],
    )


def _pair_stage(system: System) -> Stage:
    base = system.pairs.untuned
    stage = _training(
        system,
        "generator",
        "train-rag-e2e",
        "pair",
        arguments=[str(system.mined), base.retriever, base.generator],
        options={
            **RETRIEVER,
            "num_train_epochs": _epochs(system),
            "use_peft": "generator",
        },
        reads={
            "questions": system.mined,
            "retriever": base.retriever,
            "generator": base.generator,
        },
        writes=[Path(system.tuned.retriever), Path(system.tuned.generator)],
    )

    def run(resume: bool) -> None:
        answers = read_table(system.mined).texts("Answer")
        if unanswered := sum(not each for each in answers):
            logger.warning(
                "answers    %d of %d questions have none, and joint training leaves them out; "
                "--recipe independent trains the retriever on them",
                *(unanswered, len(answers)),
            )
        stage.run(resume)

    return replace(stage, run=run)
