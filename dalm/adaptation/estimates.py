"""Show which stages would run, why, and what they would take in time, memory and requests.

What a run would read and isn't there yet is made of a sample of the documents. The dry runs of
trainings, the retriever's speed on a few passages and the generator's on a few questions are
measured on that, and scaled to all documents.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from typing import Any

import dalm
from dalm import next_step
from dalm.adaptation.evaluation_stages import TESTS
from dalm.adaptation.plan import Step
from dalm.adaptation.rehearsal import Rehearsal, rehearse
from dalm.adaptation.stage_options import settings_of
from dalm.adaptation.stages import Stage
from dalm.adaptation.state import State
from dalm.adaptation.system import System
from dalm.config import Columns
from dalm.display import cell, console, duration, show
from dalm.eval.metrics import BOUNDS
from dalm.io.examples import read_examples, read_passages
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import Placement, place
from dalm.models.reranker import load_reranker
from dalm.models.retriever import load_retriever
from dalm.rag.pipeline import answer
from dalm.records import Example, Hit, Passage
from dalm.synth.estimate import Estimate, estimate
from dalm.synth.generation import load_model
from dalm.training.dry_run import forecasts

logger = logging.getLogger(__name__)

SAMPLE = 16
"""Passages that the retriever's speed is measured on."""
SHORT = 60
"""Characters of the text that stands for a question before the reranker."""
ANSWERED, IF_QUICK, QUICK = 4, 32, 1.0
"""Questions that the generator's speed is measured on; more, if these take less than a second."""
TRAININGS = ("train-retriever-only", "train-generator-only", "train-rag-e2e")


@dataclass(frozen=True)
class Taken:
    """What a stage takes, in words, seconds, and bytes of a process."""

    what: str
    seconds: float = 0.0
    memory: int = 0


def show_plan(system: System, steps: Sequence[Step], state: State) -> None:
    """Print what the dry runs of trainings say, then a table of the stages and their sum.

    Raises:
        UserError: documents or tables that a run would refuse.
    """
    from rich.table import Table

    runs = [step.stage for step in steps if step.choice == "runs"]
    taken: dict[str, Taken] = {}
    if runs:
        with rehearse(system, steps, state) as rehearsal:
            measuring = _Measuring(system, rehearsal)
            taken = {stage.name: measuring.taken(stage) for stage in runs}
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "dalm", "", "because", "takes"):
        table.add_column(name)
    for step in steps:
        name = step.stage.name
        takes = _in_words(taken[name], state, name) if name in taken else ""
        table.add_row(*map(cell, (name, step.stage.command, step.choice, step.reason, takes)))
    console().print(table)
    if runs:
        _show_sum(taken, measuring)


def _in_words(taken: Taken, state: State, name: str) -> str:
    about = f"about {duration(max(1, taken.seconds))}: " if taken.seconds else ""
    before = state.stages.get(name)
    return about + taken.what + (f"; {duration(before.seconds)} the last time" if before else "")


def _show_sum(taken: dict[str, Taken], measuring: "_Measuring") -> None:
    seconds = sum(each.seconds for each in taken.values())
    memory = max(each.memory for each in taken.values())
    parts = [f"about {duration(max(1, seconds))}"]
    parts += [f"at most {memory / 2**30:.1f} GB while training"] if memory else []
    asked = measuring.asked
    if asked is not None and asked.requests:
        count = asked.requests - asked.answered
        parts.append(
            f"{count:,} requests, {asked.tokens_in:,.0f} tokens in, {asked.tokens_out:,.0f} out "
            f"({asked.source})"
        )
    show(f"\nin all: {'; '.join(parts)}. {measuring.basis}")


def _seconds_each(run: Callable[[list[str]], object], texts: list[str]) -> float:
    """Return the seconds of a text, after a call on two of them: the first call is slower."""
    run(texts[:2])
    start = time.perf_counter()
    run(texts)
    return (time.perf_counter() - start) / len(texts)


class _Measuring:
    """Measure what stages take, on a rehearsal, and scale it to all documents."""

    def __init__(self, system: System, rehearsal: Rehearsal) -> None:
        self.system, self.rehearsal = system, rehearsal
        self.sample = rehearsal.system
        self.encoded: set[str] = set()
        """Retrievers whose vectors of the passages would be in the cache."""
        self.answered: dict[tuple[int, ...], float] = {}
        """Seconds of a prompt, by the passages and the tokens of an answer."""
        self.asked: Estimate | None = None

    @property
    def basis(self) -> str:
        """On what the figures rest."""
        count, share = self.rehearsal.passages, self.sample.share
        part = "" if share == 1 else f", {share:.2g} of the documents, and scaled to all"
        is_asked = self.system.settings.backend not in ("none", "extractive")
        by_rules = is_asked and self.asked is not None
        questions = "; questions by rules stand for the model's" if by_rules else ""
        return f"Measured on {count:,} passages{part}{questions}."

    @property
    def _of_part(self) -> str:
        share = self.sample.share
        return f", of {share:.2g} of the documents, the more often" if share < 1 else ""

    def taken(self, stage: Stage) -> Taken:
        """Return what a stage takes."""
        own = self.rehearsal.stages[stage.name]
        if stage.name == "passages":
            files = self.system.documents
            what = f"{len(files)} files, {sum(each.size for each in files) / 1e6:.1f} MB"
            return Taken(what, self.rehearsal.splitting or 0.0)
        if stage.name == "questions":
            return self._generating(stage)
        if stage.command in TRAININGS:
            return self._training(own)
        if stage.name.startswith("evaluate-"):
            return self._evaluating(own)
        if stage.name in ("negatives", "index"):
            seconds = self._encoding("untuned")
            return Taken("encodes the passages" if seconds else "seconds", seconds)
        return Taken("seconds")

    def _generating(self, stage: Stage) -> Taken:
        """Return what the questions take: the requests of a model, or what rules took."""
        options, factor = stage.options, 1 / self.sample.share
        found = estimate(stage.folder, load_model(options), self._texts, options)
        self.asked = found = replace(
            found,
            requests=self.sample.scaled(found.requests),
            answered=self.sample.scaled(found.answered),
            tokens_in=found.tokens_in * factor,
            tokens_out=found.tokens_out * factor,
            seconds=found.seconds * factor,
        )
        if not found.requests:
            return Taken("rules, without the filters", found.seconds)
        return Taken(f"{found.requests - found.answered:,} requests", found.seconds)

    def _training(self, stage: Stage) -> Taken:
        """Return what the dry run of a training says, which is of the sample but for its epochs."""
        logger.info("stage      %s: dalm %s --dry-run%s", stage.name, stage.command, self._of_part)
        questions = stage.reads["questions"]
        assert isinstance(questions, Path)
        epochs = stage.options.num_train_epochs * self.sample.times(questions)
        values = {**vars(stage.options), "dry_run": True, "num_train_epochs": epochs}
        settings = settings_of(stage.name, stage.command, values)
        with next_step.unsaid(), forecasts() as found:
            dalm.command(stage.command)(*stage.arguments, settings=settings)
        said = found[-1]
        what = f"{said.updates:,} updates, {said.memory / 2**30:.1f} GB"
        return Taken(what, said.seconds, said.memory)

    def _evaluating(self, stage: Stage) -> Taken:
        """Return what an evaluation takes.

        Two systems encode the passages and rerank those found, and each reads a prompt of these for
        each question, and one of each bound.
        """
        if why := stage.skip():
            return Taken(f"nothing, as far as can be seen: {why}")
        asked = read_examples(stage.arguments[0], Columns(), needs={"query"})
        if stage.name == "evaluate-guard":
            count, seconds = len(asked), 2 * len(asked) * self._per_passage
        else:
            most = self.system.settings.max_test_questions
            count = min(most, ceil(len(asked) / self.sample.share_of(TESTS[stage.name])))
            seconds = self._encoding("untuned") + self._encoding("tuned")
        found = min(stage.options.rerank_top, self.sample.scaled(len(self._texts)))
        seconds += 2 * count * found * self._per_pair if stage.options.reranker else 0.0
        if stage.command != "eval-rag":
            return Taken(f"{count:,} questions", seconds)
        prompts = 2 * (1 + len(BOUNDS) * stage.options.bounds) * count
        seconds += prompts * self._per_prompt(asked, stage.options)
        return Taken(f"{prompts:,} prompts and their answers", seconds)

    # Speeds

    @cached_property
    def _texts(self) -> list[Passage]:
        return read_passages(self.sample.passages, Columns())

    def _encoding(self, retriever: str) -> float:
        """Return the seconds in which a retriever encodes all passages; later they are cached."""
        if retriever in self.encoded and self.system.settings.cache:
            return 0.0
        self.encoded.add(retriever)
        return self.sample.scaled(len(self._texts)) * self._per_passage

    @cached_property
    def _per_passage(self) -> float:
        """The seconds in which the untuned retriever encodes a passage."""
        every = self._texts
        retriever = load_retriever(self.system.pairs.untuned.retriever, self._placement)
        texts = [each.text for each in every[:: max(1, len(every) // SAMPLE)][:SAMPLE]]
        return _seconds_each(retriever.encode_passages, texts)

    @cached_property
    def _per_pair(self) -> float:
        """The seconds in which the reranker reads a question, here a passage, with a passage."""
        texts = [each.text for each in self._texts[:SAMPLE]]
        name = self.system.settings.reranker
        assert name is not None
        reranker = load_reranker(name, self._placement)
        return _seconds_each(partial(reranker.score, texts[0][:SHORT]), texts)

    def _per_prompt(self, asked: Sequence[Example], options: Any) -> float:
        """Return the seconds in which the untuned generator reads a prompt and answers."""
        lengths = {name: getattr(options, name) for name in ("reader_passages", "max_new_tokens")}
        key = tuple(lengths.values())
        if key not in self.answered:
            for most in (ANSWERED, IF_QUICK):
                few = [each for each in asked if each.passage][:most]
                hits = [[Hit(e.passage, 1.0)] * options.reader_passages for e in few if e.passage]
                start = time.perf_counter()
                answer(self._generator, [each.query for each in few], hits, **lengths)
                seconds = time.perf_counter() - start
                self.answered[key] = seconds / max(1, len(few))
                if seconds > QUICK:
                    break
        return self.answered[key]

    @cached_property
    def _generator(self) -> Generator:
        return load_generator(self.system.pairs.untuned.generator, self._placement)

    @property
    def _placement(self) -> Placement:
        given = self.system.settings
        return place(given.device, given.precision, trust_remote_code=given.trust_remote_code)
