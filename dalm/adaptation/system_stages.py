"""List the stages of a system, each with its command, what it reads, and the recipe's settings."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dalm.adaptation import given_feedback, question_tables
from dalm.adaptation.index_update import IndexUpdate, calibration_table
from dalm.adaptation.negatives_table import join_negatives
from dalm.adaptation.question_tables import (
    ANSWERS,
    TRAIN,
    Origin,
    read_counts,
    test_table,
)
from dalm.adaptation.served_pair import Pair, ServedPairs, content_of_pair
from dalm.adaptation.stage_options import OPTIONS, settings_of
from dalm.adaptation.stages import Stage, command_stage
from dalm.adaptation.verdict_page import VERDICT, read_outcome, write_verdict
from dalm.config import Columns, EvalRag, EvalRetriever
from dalm.config.adaptation import Adapt
from dalm.errors import UserError
from dalm.ingest.loaders import find_files
from dalm.io.tables import read_table
from dalm.models.loading import place
from dalm.synth.pairs import TABLE

logger = logging.getLogger(__name__)

TESTS: Mapping[str, Origin] = {
    "evaluate-human": "human",
    "evaluate-feedback": "feedback",
    "evaluate-generated": "generated",
}
RETRIEVER: Mapping[str, Any] = {"per_device_train_batch_size": 16, "learning_rate": 3e-5}
"""What docs/experiments.md measured for pretrained encoders, with about 96 updates."""
MANY_QUESTIONS = 1_000
"""Questions from which on one epoch has nearly as many updates; of fewer, two."""
GENERATOR: Mapping[str, Any] = {"use_peft": True, "per_device_train_batch_size": 8}
OF_ANSWERS = {each.name for each in fields(EvalRag)} - {each.name for each in fields(EvalRetriever)}
"""Options of evaluations of answers alone."""
MACHINE = ("precision", "device", "trust_remote_code", "cache", "cache_dir", "seed")


class SystemStages:
    """The stages of a system in `settings.output_dir`, from documents to index."""

    def __init__(
        self, docs: Sequence[str], settings: Adapt, given: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.docs, self.settings, self.given = docs, settings, given
        self.folder = Path(settings.output_dir)
        self.passages = self.folder / "passages" / "passages.jsonl"
        self.tables = self.folder / "tables"
        self.mined = self.folder / "negatives" / TRAIN
        untuned = Pair(settings.retriever_name_or_path, settings.generator_name_or_path)
        self.pairs = ServedPairs(self.folder, untuned)

    @cached_property
    def files(self) -> list[Path]:
        """The documents' files."""
        found, _ = find_files(self.docs, exclude=(self.folder,))
        inside = self.folder.resolve()
        return [each.path for each in found if not each.path.resolve().is_relative_to(inside)]

    @property
    def no_passages(self) -> str:
        """What is said if the documents give no passage."""
        return (
            f"the documents in {', '.join(self.docs)} give no passage: they are empty, can't be "
            "read, or have fewer words than --min-words (for passages in --stage-options)"
        )

    @property
    def is_joint(self) -> bool:
        """Whether one run trains both models."""
        return self.settings.recipe == "joint"

    @property
    def tuned(self) -> Pair:
        """The pair that training writes."""
        if self.is_joint:
            return Pair(str(self.folder / "pair/retriever"), str(self.folder / "pair/generator"))
        return Pair(
            str(self.folder / "retriever/retriever"), str(self.folder / "generator/generator")
        )

    def all(self) -> list[Stage]:
        """Return the stages in their order, as what is there now makes them."""
        stages = [self._passages()]
        if self.settings.backend != "none":
            stages.append(self._questions())
        stages += [self._tables(), self._negatives()]
        stages += [self._pair()] if self.is_joint else [self._retriever(), self._generator()]
        stages += [self._evaluation(name, origin) for name, origin in self._origins()]
        if self.settings.guard:
            stages.append(self._guard())
        return [*stages, self._verdict(stages), self._index()]

    def _command(self, name: str, command: str, folder: str, **described: Any) -> Stage:
        options = dict(self._machine(command)) | dict(described.pop("options", {}))
        given = self.given.get(name, {})
        if command == "eval-retriever":  # questions without answers, as it turned out
            given = {each: value for each, value in given.items() if each not in OF_ANSWERS}
        return command_stage(
            name, command, self.folder / folder, options=options, given=given, **described
        )

    def _machine(self, command: str) -> dict[str, Any]:
        """Return the options of machine, cache and seed that a command takes."""
        known = {each.name for each in fields(OPTIONS[command])}
        found = {name: getattr(self.settings, name) for name in MACHINE if name in known}
        needed = command == "qa-gen" and self.settings.backend != "transformers"
        if needed:  # it loads no model
            found = {"seed": self.settings.seed}
        if command == "passages" or (command == "index" and not self.settings.trust_remote_code):
            found.pop("trust_remote_code", None)
        return {name: value for name, value in found.items() if value is not None}

    # Data

    def _passages(self) -> Stage:
        stage = self._command(
            "passages",
            "passages",
            "passages",
            arguments=[list(map(str, self.files))],
            paths={"output": str(self.passages), "overwrite_output": True},
            reads={"documents": self.files},
            writes=[self.passages],
        )

        def run(resume: bool) -> None:
            stage.run(resume)
            if not self.passages.stat().st_size:
                raise UserError(self.no_passages)

        return replace(stage, run=run)

    def _questions(self) -> Stage:
        settings = self.settings
        options: dict[str, Any] = {"backend": settings.backend, "test_share": 0}  # split later
        if settings.backend == "http":
            options["base_url"] = settings.base_url
        reads: dict[str, Any] = {"passages": self.passages}
        paths: dict[str, Any] = {
            "output_dir": str(self.folder / "questions"),
            "overwrite_output_dir": True,
        }
        if settings.backend == "transformers" and settings.question_model:
            reads["question model"] = settings.question_model
            paths["generator_name_or_path"] = settings.question_model
        elif settings.question_model:
            options["generator_name_or_path"] = settings.question_model
        return self._command(
            "questions",
            "qa-gen",
            "questions",
            arguments=[str(self.passages)],
            paths=paths,
            options=options,
            reads=reads,
            writes=[self.folder / "questions" / f"{TABLE}_train.csv"],
        )

    def generated(self) -> list[Path]:
        """Return the tables of generated questions."""
        if self.settings.backend == "none":
            return []
        return [self.folder / "questions" / f"{TABLE}_{side}.csv" for side in ("train", "test")]

    def _tables(self) -> Stage:
        settings = self.settings
        reads: dict[str, Any] = {"passages": self.passages}
        if settings.backend != "none":
            reads["generated questions"] = self.generated()
        if settings.questions:
            reads["people's questions"] = settings.questions
        names = ["query_column", "answer_column", "passage_column", "encoding"]
        names += ["test_share", "max_test_questions", "seed"]
        values = {name: getattr(settings, name) for name in names}
        indexes: list[Path] = []
        if settings.feedback is not None:
            indexes = given_feedback.indexes_of(settings.feedback, self.pairs.index.path)
            values["judgments"] = given_feedback.judgments_in(indexes)

        def run(_resume: bool) -> None:
            tables = [each for each in self.generated() if each.exists()]
            question_tables.make_tables(self.tables, settings, self.passages, tables, indexes)

        return Stage(
            name="tables",
            command="split by document",
            folder=self.tables,
            reads=reads,
            writes=[self.tables],
            settings=values,
            run=run,
        )

    def _negatives(self) -> Stage:
        found = self.mined.with_name("mined.jsonl")
        paths = {
            "output": str(found),
            "overwrite_output": True,
            "passages": [str(self.passages)],
            "retriever_name_or_path": self.pairs.untuned.retriever,
        }
        stage = self._command(
            "negatives",
            "mine-negatives",
            "negatives",
            arguments=[str(self.tables / TRAIN)],
            paths=paths,
            options={"num_negatives": 1},
            reads={
                "questions": self.tables / TRAIN,
                "passages": self.passages,
                "retriever": self.pairs.untuned.retriever,
            },
            writes=[self.mined],
        )

        def run(resume: bool) -> None:
            stage.run(resume)
            join_negatives(self.tables / TRAIN, found, self.mined)

        return replace(stage, run=run)

    # Training

    def _training(self, name: str, command: str, folder: str, **described: Any) -> Stage:
        paths = {"output_dir": str(self.folder / folder), "overwrite_output_dir": True}
        paths |= described.pop("paths", {})
        return self._command(name, command, folder, paths=paths, **described)

    def _retriever(self) -> Stage:
        base = self.pairs.untuned.retriever
        return self._training(
            "retriever",
            "train-retriever-only",
            "retriever",
            arguments=[base, str(self.mined)],
            options={**RETRIEVER, "num_train_epochs": self._epochs()},
            reads={"questions": self.mined, "retriever": base},
            writes=[Path(self.tuned.retriever)],
        )

    def trained_questions(self) -> int:
        """Return how many questions there are to train on."""
        return sum(each.train for each in read_counts(self.tables).values())

    def _epochs(self) -> int:
        return 1 if self.trained_questions() >= MANY_QUESTIONS else 2

    def _generator(self) -> Stage:
        base, table = self.pairs.untuned.generator, self.tables / ANSWERS
        device = self.settings.device
        options = dict(GENERATOR)
        paths: dict[str, Any] = {}
        reads: dict[str, Any] = {}
        if place(device, "auto").device.type == "cpu":
            options["reader_passages"] = 1  # four take four times as long
        else:
            paths = {"retriever_name_or_path": self.tuned.retriever}
            paths["passages"] = [str(self.passages)]
            reads = {"tuned retriever": self.tuned.retriever, "passages": self.passages}
        return self._training(
            "generator",
            "train-generator-only",
            "generator",
            arguments=[str(table), base],
            options=options,
            paths=paths,
            reads={"questions": table, "generator": base, **reads},
            writes=[Path(self.tuned.generator)],
        )

    def _pair(self) -> Stage:
        base = self.pairs.untuned
        stage = self._training(
            "generator",
            "train-rag-e2e",
            "pair",
            arguments=[str(self.mined), base.retriever, base.generator],
            options={
                **RETRIEVER,
                "num_train_epochs": self._epochs(),
                "use_peft": "generator",
            },
            reads={
                "questions": self.mined,
                "retriever": base.retriever,
                "generator": base.generator,
            },
            writes=[Path(self.tuned.retriever), Path(self.tuned.generator)],
        )

        def run(resume: bool) -> None:
            answers = read_table(self.mined).texts("Answer")
            if unanswered := sum(not each for each in answers):
                logger.warning(
                    "answers    %d of %d questions have none, and joint training leaves them out; "
                    "--recipe independent trains the retriever on them",
                    *(unanswered, len(answers)),
                )
            stage.run(resume)

        return replace(stage, run=run)

    # Evaluation

    def _origins(self) -> list[tuple[str, Origin]]:
        asked = {
            "human": self.settings.questions is not None,
            "feedback": self.settings.feedback is not None,
            "generated": self.settings.backend != "none",
        }
        return [(name, origin) for name, origin in TESTS.items() if asked[origin]]

    def _read_passages(self) -> int:
        """Return how many passages the generator was trained to read."""
        if self.is_joint:
            return int(self._pair().options.reader_passages)
        return int(self._generator().options.reads())

    def _evaluation(self, name: str, origin: Origin) -> Stage:
        table = test_table(self.tables, origin)
        stage = self._evaluated(name, table, f"evaluation/{origin}", [str(self.passages)])

        def skip() -> str | None:
            return None if table.exists() else f"no {origin} questions are held out"

        return replace(stage, skip=skip)

    def _guard(self) -> Stage:
        assert self.settings.guard is not None
        table = Path(self.settings.guard)
        return self._evaluated("evaluate-guard", table, "evaluation/guard", None)

    def _evaluated(self, name: str, table: Path, folder: str, searched: list[str] | None) -> Stage:
        is_guard = searched is None
        before = self.pairs.untuned if is_guard else self.pairs.before(self.tuned)
        answers = self._has_answers(table)
        command = "eval-rag" if answers else "eval-retriever"
        paths: dict[str, Any] = {
            "output_dir": str(self.folder / folder),
            "overwrite_output_dir": True,
            "retriever_name_or_path": self.tuned.retriever,
            "baseline": before.retriever,
        }
        reads: dict[str, Any] = {
            "questions": table,
            "tuned retriever": self.tuned.retriever,
            "retriever before": before.retriever,
        }
        options: dict[str, Any] = {}
        if searched:
            paths["passages"] = searched
            reads["passages"] = self.passages
        if self.settings.reranker:
            paths["reranker"] = self.settings.reranker
            reads["reranker"] = self.settings.reranker
        if answers:
            paths["generator_name_or_path"] = self.tuned.generator
            paths["baseline_generator"] = before.generator
            reads["tuned generator"] = self.tuned.generator
            reads["generator before"] = before.generator
            options = {"evaluate_generator": True, "reader_passages": self._read_passages()}
            options["bounds"] = not is_guard
        return self._command(
            name,
            command,
            folder,
            arguments=[str(table)],
            paths=paths,
            options=options,
            reads=reads,
            writes=[self.folder / folder],
        )

    def _has_answers(self, table: Path) -> bool:
        if table.parent != self.tables:  # the guard
            given = self.given.get("evaluate-guard", {})
            read = read_table(str(table), encoding=given.get("encoding"))
            return read.has(given.get("answer_column", Columns.answer_column))
        counts = {
            test_table(self.tables, origin): each
            for origin, each in read_counts(self.tables).items()
        }
        return table not in counts or bool(counts[table].answered or not counts[table].test)

    # Verdict and index

    def _verdict(self, stages: Sequence[Stage]) -> Stage:
        evaluations = [each for each in stages if each.name.startswith("evaluate-")]
        folders = {each.name: each.folder for each in evaluations if each.skip() is None}
        reads = {name: each for name, each in folders.items() if each.is_dir()}

        def run(_resume: bool) -> None:
            write_verdict(self.folder, folders)

        return Stage(
            name="verdict",
            command="compare with the pair before",
            folder=self.folder,
            reads=reads,
            writes=[self.folder / VERDICT],
            settings={},
            run=run,
        )

    def wanted(self) -> Pair | None:
        """Return the tuned pair if it is to be served; None: the one before, or the untuned one."""
        outcome = read_outcome(self.folder)
        if self.settings.force or (outcome is not None and outcome.switches):
            return self.tuned
        return None

    def _index(self) -> Stage:
        wanted = self.wanted()
        serves = f"tuned pair {content_of_pair(wanted)[:8]}" if wanted else "pair before"
        given = self.given.get("index", {})
        settings_of("index", "index", {"index_dir": "index"}, given)
        reads, options = {"passages": self.passages}, self._machine("index")
        table = calibration_table(self.tables, by_rules=self.settings.backend == "extractive")
        if table is not None and "calibrate" not in given:
            reads["held-out questions"] = table
            options["calibrate"] = str(table)
        update = IndexUpdate(pairs=self.pairs, passages=self.passages, options=options, given=given)

        def run(_resume: bool) -> None:
            update.run(wanted)

        return Stage(
            name="index",
            command="index",
            folder=self.pairs.index.path,
            reads=reads,
            writes=[],
            settings={"serves": serves, **given},
            run=run,
            is_there=lambda: self.pairs.index.pointer is not None,
        )
