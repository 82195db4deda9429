"""Log a run: one line of metrics.jsonl per logged step."""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from dalm import artifacts, file_reading
from dalm.collectives import gather
from dalm.distributed import rank, world_size
from dalm.training.objectives.objective import Loss

logger = logging.getLogger(__name__)

FILE = "metrics.jsonl"
CLOCK = ("samples_per_second", "tokens_per_second", "peak_memory_mb", "refresh_seconds")
"""Keys in which two equal runs may differ."""
SIZES = ("queries", "tokens", "slots")
"""Sums of a batch's sizes. Slots are padded tokens."""


class Meter:
    """Sum losses and sizes of the batches since the last line, on the device, without a sync."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.batches = 0
        self.since = time.perf_counter()
        self.seconds = 0.0

    def add(self, loss: Loss, queries: int) -> None:
        """Add a batch."""
        sizes = dict(zip(SIZES, (queries, loss.tokens, loss.padded_tokens), strict=True))
        device = loss.total.device
        values = {"loss": loss.total.detach(), **loss.parts}
        values |= {k: torch.tensor(v, dtype=torch.float64, device=device) for k, v in sizes.items()}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.double()
        self.batches += 1

    def flush(self) -> dict[str, float]:
        """Return the means over batches and ranks, speed and padding, and reset."""
        names = sorted(self.sums)
        count = torch.tensor(self.batches, dtype=torch.float64, device=self.sums["loss"].device)
        sums = torch.stack([*(self.sums[name] for name in names), count])
        ranks = gather(sums[None])  # (ranks, names + 1)
        *totals, batches = ranks.sum(0).tolist()
        line = {name: total / batches for name, total in zip(names, totals, strict=True)}
        size = {name: line.pop(name) * batches for name in SIZES}
        now = time.perf_counter()
        self.seconds += now - self.since
        line |= {
            "padding": 1 - size["tokens"] / size["slots"] if size["slots"] else 0.0,
            "samples_per_second": size["queries"] / self.seconds,
            "tokens_per_second": size["tokens"] / self.seconds,
            "peak_memory_mb": peak_memory() / 2**20,
        }
        self.sums, self.batches = {}, 0
        self.since, self.seconds = now, 0.0
        return line

    def state(self) -> dict[str, Any]:
        """Return the sums for a checkpoint, so that a resumed run logs as an unbroken one."""
        self.seconds += time.perf_counter() - self.since
        self.since = time.perf_counter()
        sums = {name: value.item() for name, value in self.sums.items()}
        return {"sums": sums, "batches": self.batches, "seconds": self.seconds}

    def load(self, folder: Path, device: torch.device) -> None:
        """Restore a checkpoint's state; of other ranks than these, each takes an equal part."""
        files, ranks = sorted(folder.glob("meter_*.json")), world_size()
        if len(files) == ranks:
            files, ranks = [folder / f"meter_{rank()}.json"], 1
        states = [file_reading.read_json(file) for file in files]
        self.sums = {}
        for name in states[0]["sums"]:
            # Of sizes the ranks' sum is logged, of everything else their mean.
            parts = ranks if name in SIZES else len(files)
            value = sum(state["sums"][name] for state in states) / parts
            self.sums[name] = torch.tensor(value, dtype=torch.float64, device=device)
        self.batches, self.seconds = states[0]["batches"], states[0]["seconds"]
        self.since = time.perf_counter()


def peak_memory() -> int:
    """Return the peak of allocated bytes: on the GPU if there is one, else of the process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def append(file: Path, line: dict[str, Any]) -> None:
    """Append one line of metrics."""
    with artifacts.explained(file):
        size = file.stat().st_size if file.exists() else 0
        try:
            with file.open("ab") as out:
                out.write((json.dumps(line) + "\n").encode())
        except OSError:
            os.truncate(file, size)  # no part of a line stays
            raise


def copy(source: Path, target: Path) -> None:
    """Copy a run's metrics to the folder of a run that goes on from one of its checkpoints."""
    if (source / FILE).is_file():
        shutil.copyfile(source / FILE, target / FILE)


def last_line(file: Path) -> dict[str, Any]:
    """Return the last whole line of metrics; nothing if there is none."""
    last: dict[str, Any] = {}
    for _, line in read(file):
        last = line
    return last


def rewind(file: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run writes again, and a torn last line.

    Raises:
        DamagedError: a line is damaged.
    """
    kept = last = 0
    for number, line in read(file):
        if line["step"] > step:
            break
        kept, last = number, line["step"]
    if last < step and not last:
        logger.warning("%s has no line of the steps up to %d; it begins there", file, step)
    if file.exists():
        with file.open("r+b") as lines:
            lines.truncate(sum(len(line) for line in islice(lines, kept)))


@dataclass(frozen=True)
class _Line:
    step: Annotated[int, 0] = 0


def read(
    file: Path, remedy: str = "delete the line, or the file"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of metrics with their numbers; a torn last line is left out, as is no file.

    Raises:
        DamagedError: a line is no JSON object, or its step no number of a step.
    """
    if os.path.lexists(file):
        for number, line in file_reading.read_jsonl(file, remedy, torn=True):
            found = file_reading.record_from(line, _Line, f"{file}, line {number}", remedy)
            yield number, line | {"step": found.step}
