"""Checkpoints: whole or not there at all, found again, and written when the run is told to end."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dalm.errors import UserError

_NAME = re.compile(r"checkpoint-(\d+)")
WRITING = ".writing"
"""Folder in which checkpoints grow; what is in it is not finished and is never read."""


def steps(folder: Path) -> list[tuple[int, Path]]:
    """Return the finished checkpoints of a run, oldest first, with their step."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def step(checkpoint: Path) -> int:
    """Return the step at which a checkpoint was written."""
    return int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])


def publish(written: Path, folder: Path, keep: int) -> None:
    """Move a complete checkpoint to its place, and delete the oldest beyond `keep`.

    The files are on the disk before the name is, so a crash leaves the old or the new, never half.
    Checkpoints of this step or a later one are from before the run was resumed: they go first, or
    `latest` would go on from one of them.
    """
    for file in written.rglob("*"):
        if file.is_file():
            _to_disk(file)
    for number, old in steps(folder):
        if number >= step(written):
            _delete(old)
    written.rename(folder / written.name)
    _to_disk(folder)
    for _, old in steps(folder)[:-keep]:
        _delete(old)


def clear_unfinished(folder: Path) -> None:
    """Delete what a killed run left half written or half deleted."""
    shutil.rmtree(folder / WRITING, ignore_errors=True)


def _delete(checkpoint: Path) -> None:
    """Take a checkpoint's name away before its files, so that a crash leaves no half of it."""
    doomed = checkpoint.parent / WRITING / f"old-{checkpoint.name}"
    checkpoint.rename(doomed)
    shutil.rmtree(doomed)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def find(wanted: str, folder: Path) -> Path:
    """Return the checkpoint that `--resume-from-checkpoint` means.

    Raises:
        UserError: there is none, or the folder isn't one.
    """
    if wanted == "latest":
        found = steps(folder)
        if not found:
            raise UserError(f"--resume-from-checkpoint latest: no checkpoint in {folder}")
        return found[-1][1]
    path = Path(wanted)
    if not (path / "trainer_state.json").is_file():
        there = ", ".join(p.name for _, p in steps(folder)) or "none"
        raise UserError(
            f"--resume-from-checkpoint {wanted}: not a checkpoint; {folder} holds: {there}"
        )
    return path


class Interrupted(Exception):  # noqa: N818
    """The run ended early because it was told to; `checkpoint` holds its state."""

    def __init__(self, number: signal.Signals, checkpoint: Path) -> None:
        super().__init__(
            f"stopped by {number.name} after writing {checkpoint}; "
            "run the same command with --resume-from-checkpoint latest to go on"
        )
        self.exit_code = 128 + number


class Stop:
    """Whether someone asked the run to end: SIGTERM, or Ctrl-C once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def request(self, number: int, _frame: FrameType | None) -> None:
        """Remember the signal; a second Ctrl-C ends the run at once."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the signals while inside; a no-op outside the main thread."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        try:
            before = [signal.signal(number, self.request) for number in numbers]
        except ValueError:  # signals reach the main thread alone
            yield
            return
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
