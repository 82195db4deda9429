"""Publish checkpoints whole, find the one to resume from, and stop on a signal."""

import logging
import re
import shutil
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from dalm import artifacts, file_reading, stop_signals
from dalm.collectives import total
from dalm.distributed import from_main, is_main, world_size
from dalm.errors import UserError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d+)")
WRITING = ".writing"
"""Folder in which checkpoints are written; what is in it is unfinished and never read."""
_STATE = "trainer_state.json"
SEEN_WITHIN = 10.0
"""Seconds in which a file has to be seen by the processes of other machines."""
RESUME = "run the same command with --resume-from-checkpoint latest to go on"


@dataclass(frozen=True)
class _TrainerState:
    global_step: int


def steps(folder: Path) -> list[tuple[int, Path]]:
    """Return the finished checkpoints of a run, oldest first, with their step."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def step(checkpoint: Path) -> int:
    """Return the step at which a checkpoint was written."""
    return file_reading.read_record(
        checkpoint / _STATE, _TrainerState, "resume from another one"
    ).global_step


def publish(written: Path, folder: Path, keep: int) -> None:
    """Seal a complete checkpoint, move it into `folder`, and delete the oldest beyond `keep`.

    Checkpoints of this step or a later one are from before the run was resumed: they are deleted
    first, or `latest` would resume from one of them.
    """
    artifacts.seal(written)
    for number, old in steps(folder):
        if number >= step(written):
            _delete(old)
    artifacts.publish(written, folder / written.name)
    for _, old in steps(folder)[:-keep]:
        _delete(old)


def check_seen_by_all(folder: Path, device: torch.device) -> None:
    """Refuse a folder that not all processes see: each writes its part of a checkpoint there.

    Raises:
        UserError: the processes of another machine have a folder of their own.
    """
    if world_size() == 1:
        return
    probe = folder / f".seen-{uuid.uuid4().hex}"
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
    there = from_main(probe)
    until = time.monotonic() + SEEN_WITHIN
    while not there.exists() and time.monotonic() < until:
        time.sleep(0.2)
    blind = total(float(not there.exists()), device)
    if is_main():
        probe.unlink()
    if blind:
        raise UserError(
            f"--output-dir {folder}: {blind:.0f} of {world_size()} processes don't see what the "
            "main one writes there, and checkpoints are written by all; name a folder that every "
            "machine shares"
        )


def clear_unfinished(folder: Path) -> None:
    """Delete what a killed run left partly written or partly deleted."""
    shutil.rmtree(folder / WRITING, ignore_errors=True)


def _delete(checkpoint: Path) -> None:
    """Rename a checkpoint before deleting its files, so that a crash leaves no part of it."""
    doomed = checkpoint.parent / WRITING / f"old-{checkpoint.name}"
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def how_to_resume(folder: Path) -> str:
    """Return what a run says that ends early, without another checkpoint."""
    written = steps(folder)
    if not written:
        return "; there is no checkpoint yet"
    return f"; {written[-1][1]} is the last checkpoint: {RESUME}"


def find(wanted: str, folder: Path) -> Path:
    """Return the whole checkpoint that `--resume-from-checkpoint` means.

    `latest` is the newest one that agrees with its manifest; a warning names damaged ones that are
    skipped.

    Raises:
        UserError: there is none, or the folder isn't one.
        DamagedError: the one that was named is damaged.
    """
    if wanted == "latest":
        return _newest_whole(folder)
    path = Path(wanted)
    if not (path / _STATE).is_file():
        found = ", ".join(p.name for _, p in steps(folder)) or "none"
        raise UserError(
            f"--resume-from-checkpoint {wanted}: not a checkpoint; {folder} holds: {found}"
        )
    try:
        _verify(path)
    except file_reading.DamagedError as error:
        raise file_reading.DamagedError(
            f"--resume-from-checkpoint {wanted}: {error}; resume from another checkpoint"
        ) from error
    return path


def _verify(checkpoint: Path) -> None:
    """Refuse a checkpoint that isn't what was written; without a manifest nobody can tell.

    Raises:
        DamagedError: names what is missing, cut short or changed.
    """
    if not (checkpoint / artifacts.MANIFEST).is_file():
        raise file_reading.DamagedError(f"{checkpoint / artifacts.MANIFEST} is missing")
    artifacts.verify(checkpoint)
    step(checkpoint)


def _newest_whole(folder: Path) -> Path:
    damaged = []
    for _, path in reversed(steps(folder)):
        try:
            _verify(path)
        except file_reading.DamagedError as error:
            damaged.append(f"{path.name} ({error})")
            continue
        if damaged:
            logger.warning("resuming from %s; damaged: %s", path.name, "; ".join(damaged))
        return path
    skipped = f"; damaged: {'; '.join(damaged)}" if damaged else ""
    raise UserError(f"--resume-from-checkpoint latest: no checkpoint in {folder}{skipped}")


class Interrupted(Exception):  # noqa: N818
    """Report that a signal ended the run early; `checkpoint` holds its state."""

    def __init__(self, number: signal.Signals, checkpoint: Path) -> None:
        super().__init__(f"stopped by {number.name} after writing {checkpoint}; {RESUME}")
        self.exit_code = 128 + number


class StopOnSignal(TrainerCallback):
    """Write a checkpoint and stop on SIGTERM, SIGHUP or Ctrl-C, all ranks at the same step.

    A step that takes longer than `stop_signals.GRACE` is broken off, without a checkpoint.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop if it was requested, except at the last step, which ends the run anyway."""
        if state.global_step >= state.max_steps:
            return
        number = torch.tensor(stop_signals.pending() or 0, device=args.device)
        if world_size() > 1:
            dist.all_reduce(number, dist.ReduceOp.MAX)
        if number:
            self.signal = signal.Signals(int(number))
            stop_signals.settle()
            control.should_save = True
            control.should_training_stop = True
