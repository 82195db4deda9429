"""Evaluate held-out text during pretraining, keep the best weights, and stop without progress."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from dalm import artifacts
from dalm.config import Pretraining
from dalm.distributed import is_main
from dalm.training import metrics_log
from dalm.training.best_weights import BestWeights, Figures
from dalm.training.bits_per_byte import HeldOutTexts
from dalm.training.objectives.causal_lm import CausalLM

logger = logging.getLogger(__name__)

FIGURES = "bits_per_byte.json"
EVALUATIONS = 10
"""Evaluations in a run, by default."""


class EvaluationCallback(TrainerCallback):
    """Evaluate before the first update, every `every` updates, and after the last one.

    With `patience` the run ends after so many evaluations without a better one.
    """

    def __init__(
        self,
        best: BestWeights,
        model: nn.Module,
        log: Path,
        every: int | None,
        patience: int | None,
    ) -> None:
        self.best, self.model, self.log = best, model, log
        self.every, self.patience = every, patience

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the weights that all later ones are compared with."""
        if state.global_step == 0:
            self.best.history.clear()
            line = self.best.evaluate(0, self.model).line()
            self.best.observe()  # logged here, not with the first step
            if state.is_world_process_zero:
                metrics_log.append(self.log, {"step": 0, "epoch": 0.0, **line})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate if it is due, and have the figures logged."""
        every = self.every or max(1, state.max_steps // EVALUATIONS)
        last = state.global_step >= state.max_steps
        if not last and state.global_step % every:
            return
        self.best.evaluate(state.global_step, self.model)
        control.should_log = True
        if self.patience is not None and self.best.since_chosen() >= self.patience and not last:
            control.should_training_stop = True
            if state.is_world_process_zero:
                logger.info(
                    "stopped    at update %d: %d evaluations without a better one than at %d",
                    *(state.global_step, self.patience, self.best.chosen.step),
                )


class HeldOutEvaluation:
    """Evaluate an objective's generator on held-out texts, and keep its best weights."""

    def __init__(
        self, objective: CausalLM, texts: Sequence[HeldOutTexts], settings: Pretraining
    ) -> None:
        self.objective, self.texts = objective, texts
        self.folder = Path(settings.output_dir)
        self.batch_size = settings.per_device_train_batch_size
        self.best = BestWeights(
            self.folder, self._measure, settings.max_general_loss, writes=is_main()
        )
        objective.best = self.best  # its checkpoints and log lines hold the figures
        self.callback = EvaluationCallback(
            self.best,
            objective,
            self.folder / "metrics.jsonl",
            every=settings.evaluation_steps,
            patience=settings.patience,
        )

    def _measure(self, step: int) -> Figures:
        generator, way = self.objective.generator, self.objective.way
        figures = {t.name: t.bits_per_byte(generator, way, self.batch_size) for t in self.texts}
        return Figures(step, figures["domain"], figures.get("general"))

    def finish(self) -> str:
        """Load the best weights and write the figures; return a sentence for the model card."""
        best = self.best
        best.restore(self.objective)
        if not best.writes:
            return ""
        held_out = {t.name: {"documents": t.documents, "bytes": t.bytes} for t in self.texts}
        artifacts.write_json(self.folder / FIGURES, {"held_out": held_out, **best.report()})
        before, chosen, last = best.before, best.chosen, best.history[-1]
        sentence = ""
        for name in held_out:
            values = [getattr(each, name) for each in (before, chosen, last)]
            logger.info("%-9s  %.4f bits per byte before, %.4f now, %.4f at the end", name, *values)
            sentence += (
                f"; held-out {name} text {values[0]:.4f} bits per byte before, {values[1]:.4f} "
                f"with these weights, of update {chosen.step}"
            )
        logger.info("best       the weights of update %d of %d", chosen.step, last.step)
        self._warn()
        logger.info("figures    %s", self.folder / FIGURES)
        return sentence

    def _warn(self) -> None:
        best = self.best
        if not best.within(best.chosen):
            logger.warning(
                "general text lost more than --max-general-loss %g at every evaluation: these "
                "weights lost the least; raise --replay-ratio or lower --learning-rate",
                best.max_loss,
            )
        if best.chosen.domain >= best.before.domain:
            logger.warning(
                "held-out domain text didn't improve: lower --learning-rate, or train longer"
            )
