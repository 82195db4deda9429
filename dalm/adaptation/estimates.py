"""Show which stages would run, why, and what they would take in time, memory and requests.

What can be known now is measured or counted: a training's dry run, the requests of the question
generator, the speed of the retriever on a few passages and of the generator on a few questions. Of
a stage whose input isn't there yet the table says what it waits for.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import dalm
from dalm import next_step
from dalm.adaptation.contents import MISSING, content_of
from dalm.adaptation.plan import Step
from dalm.adaptation.stage_options import settings_of
from dalm.adaptation.state import State
from dalm.adaptation.system_stages import SystemStages
from dalm.adaptation.verdict_page import duration
from dalm.config import Columns
from dalm.display import cell, console, show
from dalm.eval.metrics import BOUNDS
from dalm.io.examples import read_examples, read_passages
from dalm.models.generator import load_generator
from dalm.models.loading import Placement, place
from dalm.models.retriever import load_retriever
from dalm.rag.pipeline import answer
from dalm.records import Example, Hit

logger = logging.getLogger(__name__)

SAMPLE = 16
"""Passages that the retriever's speed is measured on."""
SECONDS = ("tables", "verdict")
"""Stages that load no model."""
ANSWERED = 4
"""Questions that the generator's speed is measured on."""
ENCODES = ("negatives", "index")
COUNTED = ("qa-gen", "train-retriever-only", "train-generator-only", "train-rag-e2e")
"""Commands that estimate themselves."""


class _Speeds(NamedTuple):
    """What was measured of the untuned models; None: there is nothing to measure it on."""

    encoding: tuple[int, float] | None
    """The number of passages, and the seconds that encoding them takes."""
    answering: tuple[int, float] | None
    """The number of questions tried, and the seconds of a prompt with its answer."""


def show_plan(stages: SystemStages, steps: Sequence[Step], state: State) -> None:
    """Print a table of the stages, then the estimates of the commands that make their own."""
    from rich.table import Table

    speeds = _Speeds(_encoding_seconds(stages, steps), _answering_seconds(stages, steps))
    table = Table(box=None, pad_edge=False)
    for name in ("stage", "dalm", "", "because", "takes"):
        table.add_column(name)
    for step in steps:
        takes = _takes(stages, step, steps, state, speeds) if step.choice == "runs" else ""
        row = (step.stage.name, step.stage.command, step.choice, step.reason, takes)
        table.add_row(*map(cell, row))
    console().print(table)
    for step in steps:
        if step.choice == "runs" and step.stage.command in COUNTED and _inputs_wait(step) is None:
            show(f"\n{step.stage.name} (dalm {step.stage.command} --dry-run):")
            with next_step.unsaid():
                _dry_run(step)


def _takes(
    stages: SystemStages,
    step: Step,
    steps: Sequence[Step],
    state: State,
    speeds: _Speeds,
) -> str:
    """Return what a stage would take, or what it isn't known without."""
    stage = step.stage
    if stage.name == "passages":
        size = sum(file.stat().st_size for file in stages.files)
        what = f"{len(stages.files)} files, {size / 1e6:.1f} MB"
    elif stage.name in SECONDS:
        what = "seconds"
    elif stage.name in ENCODES and speeds.encoding is not None:
        count, seconds = speeds.encoding
        what = f"about {duration(seconds)} to encode {count:,} passages, as measured on {SAMPLE}"
    elif found := _answering(step, speeds.answering):
        what = found
    elif (missing := _inputs_wait(step)) is not None:
        return f"unknown until {_writer_of(missing, steps)} has run"
    elif stage.command in COUNTED:
        return "see below"
    else:
        what = "unknown until it has run once"
    before = state.stages.get(stage.name)
    return f"{what}; {duration(before.seconds)} the last time" if before else what


def _inputs_wait(step: Step) -> str | None:
    """Return what a stage reads that isn't there yet."""
    reads = step.stage.reads.items()
    return next((name for name, source in reads if content_of(source) == MISSING), None)


def _writer_of(missing: str, steps: Sequence[Step]) -> str:
    """Return the stage that writes what is missing, as far as its name says so."""
    names = [step.stage.name for step in steps if step.choice == "runs"]
    by_name = {
        "passages": "passages",
        "generated questions": "questions",
        "questions": "negatives" if "negatives" in names else "tables",
        "tuned retriever": "retriever" if "retriever" in names else "generator",
        "tuned generator": "generator",
    }
    return by_name.get(missing, missing)


def _encoding_seconds(stages: SystemStages, steps: Sequence[Step]) -> tuple[int, float] | None:
    """Return the number of passages, and the seconds that encoding them takes, as measured."""
    wanted = [s for s in steps if s.stage.name in ENCODES and s.choice == "runs"]
    if not wanted or not stages.passages.exists():
        return None
    passages = read_passages(stages.passages, Columns())
    retriever = load_retriever(stages.pairs.untuned.retriever, _placement(stages))
    texts = [each.text for each in passages[:: max(1, len(passages) // SAMPLE)][:SAMPLE]]
    retriever.encode_passages(texts[:2])  # the first call is slower
    start = time.perf_counter()
    retriever.encode_passages(texts)
    each = (time.perf_counter() - start) / len(texts)
    return len(passages), each * len(passages)


def _asked(step: Step) -> list[Example]:
    """Return the questions of an evaluation of answers; none while they aren't there."""
    table = Path(str(step.stage.arguments[0])) if step.stage.command == "eval-rag" else None
    if table is None or not table.exists():
        return []
    return read_examples(table, Columns(), needs={"query"})


def _answering_seconds(stages: SystemStages, steps: Sequence[Step]) -> tuple[int, float] | None:
    """Return the number of questions tried, and the seconds of a prompt with its answer."""
    if any(each.stage.name == "tables" and each.choice == "runs" for each in steps):
        return None  # other questions, perhaps
    for step in steps:
        few = [each for each in _asked(step) if each.passage][:ANSWERED]
        if step.choice == "runs" and few:
            break
    else:
        return None
    options = step.stage.options
    generator = load_generator(stages.pairs.untuned.generator, _placement(stages))
    hits = [[Hit(each.passage, 1.0)] * options.reader_passages for each in few if each.passage]
    lengths = {"reader_passages": options.reader_passages, "max_new_tokens": options.max_new_tokens}
    start = time.perf_counter()
    answer(generator, [each.query for each in few], hits, **lengths)
    return len(few), (time.perf_counter() - start) / len(few)


def _answering(step: Step, measured: tuple[int, float] | None) -> str | None:
    """Return what an evaluation of answers takes, by what `_answering_seconds` measured.

    Each of two systems reads a prompt of the passages found for each question, and one of each
    bound.
    """
    if measured is None or not (asked := _asked(step)):
        return None
    count, seconds = measured
    contexts = 1 + len(BOUNDS) * step.stage.options.bounds
    prompts = 2 * contexts * len(asked)
    return (
        f"about {duration(seconds * prompts)} for {prompts:,} prompts and their answers, as "
        f"measured on {count}"
    )


def _placement(stages: SystemStages) -> Placement:
    given = stages.settings
    return place(given.device, given.precision, trust_remote_code=given.trust_remote_code)


def _dry_run(step: Step) -> None:
    stage = step.stage
    values = {**vars(stage.options), "dry_run": True}
    settings = settings_of(stage.name, stage.command, values)
    dalm.command(stage.command)(*stage.arguments, settings=settings)
