"""Held-out texts are measured on the way, and the run ends where they no longer gain."""

import logging
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from dalm.training import meter
from dalm.training.best import Best

logger = logging.getLogger(__name__)

TIMES = 10
"""Measurements in a run, if nobody says how often."""


class Measuring(TrainerCallback):
    """Take figures before the first update, every so many updates, and after the last one.

    With `patience` the run ends after so many measurements without a better one.
    """

    def __init__(
        self, best: Best, model: nn.Module, log: Path, every: int | None, patience: int | None
    ) -> None:
        self.best, self.model, self.log = best, model, log
        self.every, self.patience = every, patience

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the figures that all later ones are held against."""
        if state.global_step == 0:
            self.best.history.clear()
            line = self.best.take(0, self.model).line()
            self.best.observe()  # the line below is its line of the log
            if state.is_world_process_zero:
                meter.append(self.log, {"step": 0, "epoch": 0.0, **line})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take figures if it is time, and have them logged."""
        every = self.every or max(1, state.max_steps // TIMES)
        last = state.global_step >= state.max_steps
        if not last and state.global_step % every:
            return
        self.best.take(state.global_step, self.model)
        control.should_log = True
        if self.patience is not None and self.best.since_chosen() >= self.patience and not last:
            control.should_training_stop = True
            if state.is_world_process_zero:
                logger.info(
                    "stopped    at update %d: %d measurements without a better one than at %d",
                    *(state.global_step, self.patience, self.best.chosen.step),
                )
