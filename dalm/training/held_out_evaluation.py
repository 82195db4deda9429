"""Evaluate held-out texts in bits per byte during pretraining, and keep the best weights.

Bits per byte = Σ −log₂ p(token | its document's tokens before it) / bytes of the texts in UTF-8: a
figure that doesn't depend on the tokenizer. The end of a document has no bytes and isn't counted.
Long documents are cut into windows, as in training.
"""

import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from dalm import artifacts, file_reading
from dalm.collectives import missing_passes, total
from dalm.config import Pretraining
from dalm.distributed import is_main, share
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.packed_attention import Way, packed_log_probs
from dalm.progress import track
from dalm.training import checkpoints, metrics_log, sharding
from dalm.training.data.corpus import documents
from dalm.training.data.packing import PackedBatch, PackedRows
from dalm.training.data.pretraining_texts import Corpus
from dalm.training.objectives.causal_lm import CausalLM

logger = logging.getLogger(__name__)

FIGURES = "bits_per_byte.json"
EVALUATIONS = 10
"""Evaluations in a run, by default."""
_STATE, _WEIGHTS = "best.json", "best.safetensors"


class HeldOutTexts:
    """Hold texts that aren't trained on; every rank measures its share of them."""

    def __init__(self, name: str, generator: Generator, texts: Sequence[str], length: int) -> None:
        self.name = name
        """domain or general."""
        self.generator = generator
        found = documents(generator, texts, ends=False)
        self.rows = PackedRows(found, length, pad_token=generator.pad_token)
        self.documents = len(texts)
        self.bytes = sum(len(text.encode()) for text in texts)
        unknown = generator.tokenizer.unk_token_id
        lost = sum(int((document == unknown).sum()) for document in found)
        if lost and unknown != generator.tokenizer.eos_token_id:
            logger.warning(
                "%s: %d tokens of the held-out text are unknown to the tokenizer; bits per byte "
                "leave out the text they stand for",
                *(name, lost),
            )

    @torch.no_grad()
    def bits_per_byte(self, way: Way, batch: int) -> float:
        """Return the bits per byte, computed on `batch` rows at a time."""
        generator = self.generator
        rows = share(range(len(self.rows)))
        batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        nats, missing = 0.0, missing_passes(generator, len(batches))
        with evaluating(generator), generator.placement.autocast():
            for some in track(batches, len(rows), f"held-out {self.name} text", "rows", len):
                nats += self._nats(some, way)
            for _ in range(missing):
                self._nats([0], way)
        return total(nats, generator.device) / math.log(2) / self.bytes

    def _nats(self, rows: Sequence[int], way: Way) -> float:
        """Return the negative log-likelihood of some rows."""
        packed = cast(PackedBatch, self.rows.collate(rows))
        tokens, positions, scored = (
            each.to(self.generator.device)
            for each in (packed["tokens"], packed["positions"], packed["scored"])
        )
        found = packed_log_probs(self.generator, tokens, positions, scored, way)
        return -float(found.double().sum())


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
        self, folder: Path, measure: Callable[[int], Figures], max_loss: float, *, writes: bool
    ) -> None:
        self.folder = folder / checkpoints.WRITING
        self.measure, self.max_loss, self.writes = measure, max_loss, writes
        self.history: list[Figures] = []
        self._new: dict[str, float] = {}

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
        before = self.history[0].general
        if figures.general is None or before is None:
            return 0.0
        return figures.general / before - 1

    def _badness(self, figures: Figures) -> tuple[bool, float]:
        within = self.within(figures)
        badness = figures.domain if within else self._lost(figures)
        return not within, math.inf if math.isnan(badness) else badness

    def evaluate(self, step: int, model: nn.Module) -> Figures:
        """Measure after `step` updates, and keep the weights if they are the best."""
        figures = self.measure(step)
        self.history.append(figures)
        self._new = figures.line()
        if not step or self.chosen is not figures:
            return figures
        weights = sharding.gather_trained(model)
        if self.writes:
            with artifacts.stage_file(self.folder / _WEIGHTS) as staged:
                save_file(weights, staged)
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
            for name, weight in sharding.trained(model).items():
                sharding.set_weight(weight, stored[name])

    def save(self, folder: Path) -> None:
        """Write figures and weights into a checkpoint; the weights are hard-linked if possible."""
        artifacts.write_json(folder / _STATE, [asdict(each) for each in self.history])
        if (self.folder / _WEIGHTS).is_file():
            _link(self.folder / _WEIGHTS, folder / _WEIGHTS)

    def load(self, folder: Path) -> None:
        """Load a checkpoint's figures and weights."""
        if (folder / _STATE).is_file():
            stored = file_reading.read_json_as(folder / _STATE, list)
            self.history = [Figures(**each) for each in stored]
        if self.writes and (folder / _WEIGHTS).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            _link(folder / _WEIGHTS, self.folder / _WEIGHTS)


def _link(source: Path, target: Path) -> None:
    """Link a file that is never changed, or copy it where the disk has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


class HeldOutEvaluation(TrainerCallback):
    """Evaluate before the first update, every `evaluation_steps` updates, and after the last one.

    The objective's checkpoints and log lines hold the figures. With `patience` the run ends after
    so many evaluations without a better one.
    """

    def __init__(self, objective: CausalLM, corpus: Corpus, settings: Pretraining) -> None:
        self.objective, self.settings = objective, settings
        named = {"domain": corpus.held_out_domain, "general": corpus.held_out_general}
        self.texts = [
            HeldOutTexts(name, objective.generator, texts, settings.sequence_length)
            for name, texts in named.items()
            if texts
        ]
        self.folder = Path(settings.output_dir)
        self.best = BestWeights(
            self.folder, self._measure, settings.max_general_loss, writes=is_main()
        )
        objective.best = self.best

    def _measure(self, step: int) -> Figures:
        way, batch = self.objective.way, self.settings.per_device_train_batch_size
        figures = {texts.name: texts.bits_per_byte(way, batch) for texts in self.texts}
        return Figures(step, figures["domain"], figures.get("general"))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the weights that all later ones are compared with."""
        if state.global_step and self._exhausted():  # resumed from where it had ended
            control.should_training_stop = True
        if state.global_step == 0:
            self.best.history.clear()
            line = self.best.evaluate(0, self.objective).line()
            self.best.observe()  # logged here, not with the first step
            if state.is_world_process_zero:
                log = self.folder / metrics_log.FILE
                metrics_log.append(log, {"step": 0, "epoch": 0.0, **line})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate if it is due, and have the figures logged."""
        every = self.settings.evaluation_steps or max(1, state.max_steps // EVALUATIONS)
        last = state.global_step >= state.max_steps
        if not last and state.global_step % every:
            return
        self.best.evaluate(state.global_step, self.objective)
        control.should_log = True
        if self._exhausted() and not last:
            control.should_training_stop = True
            if state.is_world_process_zero:
                logger.info(
                    "stopped    at update %d: %d evaluations without a better one than at %d",
                    *(state.global_step, self.settings.patience, self.best.chosen.step),
                )

    def _exhausted(self) -> bool:
        """Tell whether as many evaluations as `--patience` allows have brought nothing better."""
        patience = self.settings.patience
        return (
            patience is not None
            and len(self.best.history) > 1
            and self.best.since_chosen() >= patience
        )

    def finish(self) -> str:
        """Load the best weights and write the figures; return a sentence for the model card."""
        self.best.restore(self.objective)
        if not self.best.writes:
            return ""
        before, chosen, last = self.best.history[0], self.best.chosen, self.best.history[-1]
        held_out = {t.name: {"documents": t.documents, "bytes": t.bytes} for t in self.texts}
        named = {"before": before, "best": chosen, "last": last}
        figures = {name: {"step": each.step, **each.line()} for name, each in named.items()}
        artifacts.write_json(self.folder / FIGURES, {"held_out": held_out, **figures})
        sentence = ""
        for name in held_out:
            values = [getattr(each, name) for each in (before, chosen, last)]
            logger.info("%-9s  %.4f bits per byte before, %.4f now, %.4f at the end", name, *values)
            sentence += (
                f"; held-out {name} text {values[0]:.4f} bits per byte before, {values[1]:.4f} "
                f"with these weights, of update {chosen.step}"
            )
        logger.info("best       the weights of update %d of %d", chosen.step, last.step)
        if not self.best.within(chosen):
            logger.warning(
                "general text lost more than --max-general-loss %g at every evaluation: these "
                "weights lost the least; raise --replay-ratio or lower --learning-rate",
                self.best.max_loss,
            )
        if chosen.domain >= before.domain:
            logger.warning(
                "held-out domain text didn't improve: lower --learning-rate, or train longer"
            )
        logger.info("figures    %s", self.folder / FIGURES)
        return sentence
