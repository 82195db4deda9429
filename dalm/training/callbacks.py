"""Show the progress of training, and stop it on a signal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from dalm.distributed import world_size
from dalm.progress import bar
from dalm.training import checkpoints


class ProgressBar(TrainerCallback):
    """Show one bar with the remaining time and the loss."""

    def __init__(self) -> None:
        self.bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar at the step where the run starts or resumes."""
        if state.is_world_process_zero:
            self.bar = bar(state.max_steps, "training", "step", initial=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the bar however the training ends, so that the next message has its own line."""
        try:
            yield
        finally:
            if self.bar is not None:
                self.bar.close()


class StopOnSignal(TrainerCallback):
    """Log the last step; on a signal write a checkpoint and stop, all ranks at the same step."""

    def __init__(self, stop: checkpoints.StopSignal) -> None:
        self.stop = stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log if this is the last step, else stop if it was requested."""
        if state.global_step >= state.max_steps:
            control.should_log = True
        elif self._requested(args.device):
            control.should_save = True
            control.should_training_stop = True

    def _requested(self, device: torch.device) -> bool:
        number = torch.tensor(int(self.stop.signal or 0), device=device)
        if world_size() > 1:
            dist.all_reduce(number, dist.ReduceOp.MAX)
            if number and self.stop.signal is None:
                self.stop.request(int(number), None)
        return bool(number)
