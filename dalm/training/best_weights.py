"""The best weights of a run: by the domain's figure, within what general text may lose."""

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dalm.training import checkpoints

_STATE, _WEIGHTS = "best.json", "best.safetensors"


@dataclass(frozen=True, slots=True)
class Figures:
    """Bits per byte of the held-out texts after so many updates."""

    step: int
    domain: float
    general: float | None = None

    def line(self) -> dict[str, float]:
        """Return what the log says."""
        line = {"domain_bits_per_byte": self.domain}
        return line if self.general is None else {**line, "general_bits_per_byte": self.general}


class Best:
    """Take figures at an update, and keep the weights if they are the best so far.

    The best have the fewest bits per domain byte, of those whose general text has lost at most the
    share `most_lost`; as long as there are none of these, those that have lost the least.
    """

    def __init__(
        self,
        folder: Path,
        measure: Callable[[int], Figures],
        most_lost: float,
        *,
        writes: bool,
    ) -> None:
        self.folder = folder / checkpoints.WRITING
        self.measure = measure
        self.most_lost = most_lost
        self.writes = writes
        self.history: list[Figures] = []
        self._new: dict[str, float] = {}

    @property
    def before(self) -> Figures:
        """The figures before the first update."""
        return self.history[0]

    @property
    def chosen(self) -> Figures:
        """The figures of the weights that are kept."""
        return min(self.history[1:], key=self._badness)

    def since_chosen(self) -> int:
        """Return how often figures have been taken since, without a better one."""
        return len(self.history) - 1 - self.history.index(self.chosen)

    def within(self, figures: Figures) -> bool:
        """Whether general text has lost no more than it may."""
        return self._lost(figures) <= self.most_lost

    def _lost(self, figures: Figures) -> float:
        if figures.general is None or self.before.general is None:
            return 0.0
        return figures.general / self.before.general - 1

    def _badness(self, figures: Figures) -> tuple[bool, float]:
        within = self.within(figures)
        badness = figures.domain if within else self._lost(figures)
        return not within, math.inf if math.isnan(badness) else badness

    def take(self, step: int, model: nn.Module) -> Figures:
        """Take figures after `step` updates, and keep the weights if they are the best."""
        figures = self.measure(step)
        self.history.append(figures)
        self._new = figures.line()
        if step and self.writes and self.chosen is figures:
            self.folder.mkdir(parents=True, exist_ok=True)
            growing = self.folder / f"{_WEIGHTS}.part"
            save_file(_trained(model), growing)
            growing.replace(self.folder / _WEIGHTS)
        return figures

    def observe(self) -> dict[str, float]:
        """Return figures that the log hasn't said yet."""
        line, self._new = self._new, {}
        return line

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Put the best weights into the model."""
        file = self.folder / _WEIGHTS
        if file.is_file():
            stored = load_file(file)
            for name, weight in _trained(model).items():
                weight.copy_(stored[name])

    def save(self, folder: Path) -> None:
        """Write figures and weights into a checkpoint; the weights are linked where they can be."""
        (folder / _STATE).write_text(json.dumps([asdict(each) for each in self.history]))
        if (self.folder / _WEIGHTS).is_file():
            _link(self.folder / _WEIGHTS, folder / _WEIGHTS)

    def load(self, folder: Path) -> None:
        """Take up a checkpoint's figures and weights."""
        if (folder / _STATE).is_file():
            self.history = [Figures(**each) for each in json.loads((folder / _STATE).read_text())]
        if self.writes and (folder / _WEIGHTS).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            _link(folder / _WEIGHTS, self.folder / _WEIGHTS)

    def report(self) -> dict[str, dict[str, float]]:
        """Return the figures before, of the weights kept, and after the last update."""
        named = {"before": self.before, "best": self.chosen, "last": self.history[-1]}
        return {name: {"step": each.step, **each.line()} for name, each in named.items()}


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.data for name, p in model.named_parameters() if p.requires_grad}


def _link(source: Path, target: Path) -> None:
    """Give a file that is never changed a second name; a copy where the disk knows no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
