"""The stages that make data: passages, questions, tables to train and evaluate on, negatives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dalm.adaptation import given_feedback, question_tables
from dalm.adaptation.negatives_table import join_negatives
from dalm.adaptation.question_tables import TRAIN
from dalm.adaptation.stages import Stage
from dalm.adaptation.system import System
from dalm.errors import UserError
from dalm.synth.pairs import TABLE


def passages_stage(system: System) -> Stage:
    """Split the documents."""
    stage = system.command(
        "passages",
        "passages",
        "passages",
        arguments=[list(map(str, system.files))],
        paths={"output": str(system.passages), "overwrite_output": True},
        reads={"documents": system.files},
        writes=[system.passages],
    )

    def run(resume: bool) -> None:
        stage.run(resume)
        if not system.passages.stat().st_size:
            raise UserError(system.no_passages)

    return replace(stage, run=run)


def questions_stage(system: System) -> Stage:
    """Generate questions on the passages, by a model or by rules."""
    settings = system.settings
    options: dict[str, Any] = {"backend": settings.backend, "test_share": 0}  # split later
    if settings.backend == "http":
        options["base_url"] = settings.base_url
    reads: dict[str, Any] = {"passages": system.passages}
    paths: dict[str, Any] = {
        "output_dir": str(system.folder / "questions"),
        "overwrite_output_dir": True,
    }
    if settings.backend == "transformers" and settings.question_model:
        reads["question model"] = settings.question_model
        paths["generator_name_or_path"] = settings.question_model
    elif settings.question_model:
        options["generator_name_or_path"] = settings.question_model
    return system.command(
        "questions",
        "qa-gen",
        "questions",
        arguments=[str(system.passages)],
        paths=paths,
        options=options,
        reads=reads,
        writes=[system.folder / "questions" / f"{TABLE}_train.csv"],
    )


def tables_stage(system: System) -> Stage:
    """Bring questions of every origin together, and hold documents out."""
    settings = system.settings
    reads: dict[str, Any] = {"passages": system.passages}
    if settings.backend != "none":
        reads["generated questions"] = system.generated()
    if settings.questions:
        reads["people's questions"] = settings.questions
    names = ["query_column", "answer_column", "passage_column", "encoding"]
    names += ["test_share", "max_test_questions", "seed"]
    values = {name: getattr(settings, name) for name in names}
    indexes: list[Path] = []
    if settings.feedback is not None:
        indexes = given_feedback.indexes_of(settings.feedback, system.pairs.index.path)
        values["judgments"] = given_feedback.judgments_in(indexes)

    def run(_resume: bool) -> None:
        tables = [each for each in system.generated() if each.exists()]
        question_tables.make_tables(system.tables, settings, system.passages, tables, indexes)

    return Stage(
        name="tables",
        command="split by document",
        folder=system.tables,
        reads=reads,
        writes=[system.tables],
        settings=values,
        run=run,
    )


def negatives_stage(system: System) -> Stage:
    """Mine a hard negative for each question, by the untuned retriever."""
    found = system.mined.with_name("mined.jsonl")
    paths = {
        "output": str(found),
        "overwrite_output": True,
        "passages": [str(system.passages)],
        "retriever_name_or_path": system.pairs.untuned.retriever,
    }
    stage = system.command(
        "negatives",
        "mine-negatives",
        "negatives",
        arguments=[str(system.tables / TRAIN)],
        paths=paths,
        options={"num_negatives": 1},
        reads={
            "questions": system.tables / TRAIN,
            "passages": system.passages,
            "retriever": system.pairs.untuned.retriever,
        },
        writes=[system.mined],
    )

    def run(resume: bool) -> None:
        stage.run(resume)
        join_negatives(system.tables / TRAIN, found, system.mined)

    return replace(stage, run=run)
