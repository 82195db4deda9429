"""What happens beside the steps: the bar, the last line of the log, the end on request."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import TrainerCallback

from dalm.distributed import world_size
from dalm.progress import bar
from dalm.training import checkpoints, metrics_log
from dalm.training.best_weights import Best


class Progress(TrainerCallback):
    """One bar with the time left and the loss."""

    def __init__(self) -> None:
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar where the run starts or goes on."""
        if state.is_world_process_zero:
            self.bar = bar(state.max_steps, "training", "step", initial=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move on."""
        if self.bar is not None:
            self.bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the bar however the training ends, so that what is said next has its own line."""
        try:
            yield
        finally:
            if self.bar is not None:
                self.bar.close()


class Ending(TrainerCallback):
    """Log the last step; at a signal write a checkpoint and stop, all ranks at the same step."""

    def __init__(self, stop: checkpoints.Stop) -> None:
        self.stop = stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look whether this is the last step."""
        if state.global_step >= state.max_steps:
            control.should_log = True
        elif self._asked(args.device):
            control.should_save = True
            control.should_training_stop = True

    def _asked(self, device: torch.device) -> bool:
        asked = torch.tensor(int(self.stop.signal or 0), device=device)
        if world_size() > 1:
            dist.all_reduce(asked, dist.ReduceOp.MAX)
            if asked and self.stop.signal is None:
                self.stop.request(int(asked), None)
        return bool(asked)


# FOLDED measuring.py: Held-out texts are measured on the way, and the run ends where they no longer gain.

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
                metrics_log.append(self.log, {"step": 0, "epoch": 0.0, **line})

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
