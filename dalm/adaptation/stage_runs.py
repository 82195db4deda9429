"""Run the stages of a system that have to run, one after the other."""

import ctypes
import gc
import logging
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dalm import artifacts, next_step, stop_signals
from dalm.adaptation import input_checks
from dalm.adaptation.plan import Step, decide, record_of, written_by
from dalm.adaptation.served_pair import Pair
from dalm.adaptation.stage_options import read_stage_options
from dalm.adaptation.stages import Stage
from dalm.adaptation.state import State
from dalm.adaptation.system import System
from dalm.adaptation.system_stages import stage_of, stages_of
from dalm.adaptation.verdict_page import PAGE, read_outcome
from dalm.config import check
from dalm.config.adaptation import STAGES, Adapt, Recipe
from dalm.display import duration
from dalm.errors import UserError
from dalm.file_reading import user_path

logger = logging.getLogger(__name__)

RECIPES: dict[Recipe, str] = {
    "independent": "the retriever by contrast with mined negatives, then the generator on "
    "passages; no joint objective was measured to be better in the same time",
    "joint": "retriever and generator in one run, by --recipe joint",
}
"""What trains, and why, by recipe."""


def checked_system(docs: Sequence[str], settings: Adapt) -> System:
    """Refuse what can't work before anything runs; return the system.

    Raises:
        UserError: names the option.
    """
    check(settings)
    given = read_stage_options(settings.stage_options)
    if settings.backend == "none" and settings.questions is None and settings.feedback is None:
        raise UserError("--backend none: nothing is left to train on; add --questions")
    if settings.backend == "transformers" and not settings.question_model:
        raise UserError("--backend transformers needs --model, a folder or a name on the hub")
    ends = (settings.from_stage, settings.to_stage)
    if all(ends) and STAGES.index(ends[0] or "") > STAGES.index(ends[1] or ""):
        raise UserError(f"--from {ends[0]} is after --to {ends[1]}; swap them")
    artifacts.check_folder("--output-dir", Path(settings.output_dir))
    input_checks.check_models(settings)
    system = System(docs, settings, given)
    if not system.files:
        raise UserError(f"no files in {', '.join(docs)}; name a folder with documents")
    names = [stage.name for stage in stages_of(system)]
    for option, name in zip(("--from", "--to"), ends, strict=True):
        if name is not None and name not in names:
            raise UserError(f"{option} {name}: this system has no such stage, but {names}")
    input_checks.check_tables(system)
    return system


def plan(system: System, state: State) -> list[Step]:
    """Return what would run, as far as that is known before anything has run."""
    steps: list[Step] = []
    for stage in stages_of(system):
        running = [step.stage.name for step in steps if step.choice == "runs"]
        steps.append(decide(stage, state, system.settings, running))
    return steps


def run(system: System, state: State) -> None:
    """Run the stages that have to run, and say of each why it does or doesn't."""
    names = [stage.name for stage in stages_of(system)]
    logger.info("recipe     %s: %s", system.settings.recipe, RECIPES[system.settings.recipe])
    for place, name in enumerate(names, start=1):
        step = decide(stage_of(system, name), state, system.settings)
        what = "" if step.choice == "runs" else f"{step.choice}: "
        logger.info("stage      %d/%d %s: %s%s", place, len(names), name, what, step.reason)
        if step.choice == "runs":
            _run_stage(system, step, state)


def _run_stage(system: System, step: Step, state: State) -> None:
    stage, start = step.stage, time.perf_counter()
    before = record_of(stage)
    if stage.resumes and not step.resumes:
        _delete_checkpoints(stage)  # of other data or settings
    state.begin(stage.name, before)
    hint = "; the same command goes on where it was"
    with next_step.unsaid(), stop_signals.explaining(lambda: hint):
        stage.run(step.resumes)
    after = stage_of(system, stage.name)
    seconds = time.perf_counter() - start
    # A hub model has its commit once it was loaded.
    reads = {**before.reads, **_loaded(after)}
    state.finish(
        stage.name, replace(before, reads=reads, writes=written_by(after), seconds=seconds)
    )
    if stage.resumes:
        _delete_checkpoints(stage)
    _give_back_memory()
    logger.info("finished   %s in %s", stage.name, duration(seconds))


def _give_back_memory() -> None:
    """Give freed memory back to the system: glibc keeps gigabytes that a training has freed."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _loaded(stage: Stage) -> dict[str, str]:
    names = {k for k, v in stage.reads.items() if isinstance(v, str)}
    return {name: value for name, value in record_of(stage).reads.items() if name in names}


def _delete_checkpoints(stage: Stage) -> None:
    for path in stage.folder.glob("checkpoint-*"):
        shutil.rmtree(path)


def log_result(system: System) -> None:
    """Say the verdict, what is where, and the command that serves the system."""
    outcome, folder = read_outcome(system.folder), system.folder
    served = system.pairs.served()
    if (last := system.settings.to_stage) is not None and last != "index":
        earlier = "; verdict and index are of an earlier run" if outcome else ""
        logger.info("left       what follows %s, by --to%s", last, earlier)
    if outcome is None or served is None:
        return
    logger.info("verdict    %s", outcome.headline)
    for sentence in outcome.losses:
        logger.info("worse      %s", sentence)
    if (folder / PAGE).exists():
        logger.info("page       %s", folder / PAGE)
    tuned = served != system.pairs.untuned
    why = "the tuned pair" if tuned else "the pair as it was"
    if tuned and not outcome.switches:
        why = "a tuned pair: by --force" if system.settings.force else "the pair tuned before"
    logger.info("index      %s, of %s", system.pairs.index.path, why)
    if (before := system.pairs.previous(served)) is not None:
        words = [*serving(system, served), "--compare-previous"]
        words += ["--compare-generator-name-or-path", before.generator]
        logger.info("compare    with the pair before, blind: %s", next_step.line(words))
    next_step.log_next(serving(system, served))


def serving(system: System, pair: Pair) -> list[object]:
    """Return the command that serves a pair from the index."""
    words: list[object] = ["serve", system.pairs.index.path]
    words += ["--generator-name-or-path", pair.generator, "--feedback"]
    folders = [each for each in system.docs if user_path(each).is_dir()]
    if len(folders) == 1:
        words += ["--documents", folders[0]]
    if system.settings.reranker:
        words += ["--reranker", system.settings.reranker]
    return words
