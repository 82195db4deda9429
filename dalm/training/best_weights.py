"""Keep the best weights of a run, by held-out domain text within a limit on general text."""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dalm import artifacts
from dalm.training import checkpoints

_STATE, _WEIGHTS = "best.json", "best.safetensors"


@dataclass(frozen=True, slots=True)
class Figures:
    """Bits per byte of the held-out texts after `step` updates."""

    step: int
    domain: float
    general: float | None = None

    def line(self) -> dict[str, float]:
        """Return the keys and values of the log."""
        line = {"domain_bits_per_byte": self.domain}
        return line if self.general is None else {**line, "general_bits_per_byte": self.general}


class BestWeights:
    """Measure held-out text at some updates, and keep the weights that did best.

    The best weights have the fewest bits per domain byte among those whose bits per general byte
    rose by at most the fraction `max_loss`; if none are within it, those that rose the least.
    """

    def __init__(
        self,
        folder: Path,
        measure: Callable[[int], Figures],
        max_loss: float,
        *,
        writes: bool,
    ) -> None:
        self.folder = folder / checkpoints.WRITING
        self.measure = measure
        self.max_loss = max_loss
        self.writes = writes
        self.history: list[Figures] = []
        self._new: dict[str, float] = {}

    @property
    def before(self) -> Figures:
        """Figures before the first update."""
        return self.history[0]

    @property
    def chosen(self) -> Figures:
        """Figures of the weights that are kept."""
        return min(self.history[1:], key=self._badness)

    def since_chosen(self) -> int:
        """Return how many measurements were made since, none of them better."""
        return len(self.history) - 1 - self.history.index(self.chosen)

    def within(self, figures: Figures) -> bool:
        """Tell whether general text lost no more than `max_loss`."""
        return self._lost(figures) <= self.max_loss

    def _lost(self, figures: Figures) -> float:
        if figures.general is None or self.before.general is None:
            return 0.0
        return figures.general / self.before.general - 1

    def _badness(self, figures: Figures) -> tuple[bool, float]:
        within = self.within(figures)
        badness = figures.domain if within else self._lost(figures)
        return not within, math.inf if math.isnan(badness) else badness

    def evaluate(self, step: int, model: nn.Module) -> Figures:
        """Measure after `step` updates, and keep the weights if they are the best."""
        figures = self.measure(step)
        self.history.append(figures)
        self._new = figures.line()
        if step and self.writes and self.chosen is figures:
            with artifacts.stage_file(self.folder / _WEIGHTS) as staged:
                save_file(_trained(model), staged)
        return figures

    def observe(self) -> dict[str, float]:
        """Return figures that haven't been logged yet."""
        line, self._new = self._new, {}
        return line

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Load the best weights into the model."""
        file = self.folder / _WEIGHTS
        if file.is_file():
            stored = load_file(file)
            for name, weight in _trained(model).items():
                weight.copy_(stored[name])

    def save(self, folder: Path) -> None:
        """Write figures and weights into a checkpoint; the weights are hard-linked if possible."""
        artifacts.write_json(folder / _STATE, [asdict(each) for each in self.history])
        if (self.folder / _WEIGHTS).is_file():
            _link(self.folder / _WEIGHTS, folder / _WEIGHTS)

    def load(self, folder: Path) -> None:
        """Load a checkpoint's figures and weights."""
        if (folder / _STATE).is_file():
            stored = artifacts.read_json_as(folder / _STATE, list)
            self.history = [Figures(**each) for each in stored]
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
    """Link a file that is never changed, or copy it where the disk has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
