"""What happens beside the steps: the bar, the last line of the log, the end on request."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from dalm.distributed import world
from dalm.progress import bar
from dalm.training import checkpoints


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
        if world()[1] > 1:
            dist.all_reduce(asked, dist.ReduceOp.MAX)
            if asked and self.stop.signal is None:
                self.stop.request(int(asked), None)
        return bool(asked)
