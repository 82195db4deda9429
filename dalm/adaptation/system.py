"""A system in its folder: what is where, the pair it starts from, the stages' common options."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dalm.adaptation.question_tables import TRAIN, read_counts
from dalm.adaptation.served_pair import Pair, ServedPairs
from dalm.adaptation.stage_options import OPTIONS
from dalm.adaptation.stages import Stage, command_stage
from dalm.adaptation.verdict_page import read_outcome
from dalm.config.adaptation import Adapt
from dalm.ingest.loaders import find_files
from dalm.ingest.loaders.loader import File
from dalm.synth.pairs import TABLE

MACHINE = ("precision", "device", "trust_remote_code", "cache", "cache_dir", "seed")


class System:
    """What is adapted in `settings.output_dir`; `given` are the user's options of stages."""

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
    def documents(self) -> list[File]:
        """The documents' files, as they are loaded."""
        found, _ = find_files(self.docs, exclude=(self.folder,))
        inside = self.folder.resolve()
        return [each for each in found if not each.path.resolve().is_relative_to(inside)]

    @property
    def files(self) -> list[Path]:
        """Their paths."""
        return [each.path for each in self.documents]

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

    def generated(self) -> list[Path]:
        """Return the tables of generated questions."""
        if self.settings.backend == "none":
            return []
        return [self.folder / "questions" / f"{TABLE}_{side}.csv" for side in ("train", "test")]

    def trained_questions(self) -> int:
        """Return how many questions there are to train on."""
        return sum(each.train for each in read_counts(self.tables).values())

    def wanted(self) -> Pair | None:
        """Return the tuned pair if it is to be served; None: the one before, or the untuned one."""
        outcome = read_outcome(self.folder)
        if self.settings.force or (outcome is not None and outcome.switches):
            return self.tuned
        return None

    def command(
        self,
        name: str,
        command: str,
        folder: str,
        *,
        options: Mapping[str, Any] = MappingProxyType({}),
        given: Mapping[str, Any] | None = None,
        **described: Any,
    ) -> Stage:
        """Return a stage that is a command, in a folder of the system.

        `options` are the recipe's; those that are `given`, by default all of the user's for the
        stage, win.
        """
        return command_stage(
            name,
            command,
            self.folder / folder,
            options={**self.machine(command), **options},
            given=self.given.get(name, {}) if given is None else given,
            **described,
        )

    def machine(self, command: str) -> dict[str, Any]:
        """Return the options of machine, cache and seed that a command takes."""
        known = {each.name for each in fields(OPTIONS[command])}
        found = {name: getattr(self.settings, name) for name in MACHINE if name in known}
        if command == "qa-gen" and self.settings.backend != "transformers":  # it loads no model
            found = {"seed": self.settings.seed}
        if command == "passages" or (command == "index" and not self.settings.trust_remote_code):
            found.pop("trust_remote_code", None)
        return {name: value for name, value in found.items() if value is not None}
