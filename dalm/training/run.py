"""A training run from the outside: what is refused before it starts, its folder, its last lines."""

import importlib.util
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from transformers import set_seed

from dalm import settings as options
from dalm.errors import UserError
from dalm.models import loading
from dalm.models.loading import Placement
from dalm.records import Example
from dalm.training import checkpoints
from dalm.training.batches import Rows
from dalm.training.objectives import Objective

logger = logging.getLogger(__name__)

_TRACKERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "comet_ml": "comet_ml",
    "clearml": "clearml",
    "trackio": "trackio",
}
_WRITTEN = ("retriever", "generator", "settings.yaml", "metrics.jsonl")


@dataclass(frozen=True)
class TrainingRun:
    """A run that may start."""

    settings: options.Training
    folder: Path
    placement: Placement
    trackers: list[str]

    def place(self, *, lora: bool, four_bit: bool) -> Placement:
        """Return how to hold a model's weights: frozen ones may be small."""
        return replace(self.placement, frozen=lora, four_bit=four_bit)

    def lora(self, task: str) -> Any:
        """Return the LoRA configuration that the settings ask for."""
        given = self.settings
        return loading.lora(
            rank=given.lora_rank,
            alpha=given.lora_alpha,
            dropout=given.lora_dropout,
            targets=given.lora_target_modules,
            task=task,
        )

    def open(self, **inputs: str) -> None:
        """Make the folder ready, once nothing is left that could be refused; write the settings."""
        set_seed(self.settings.seed)
        if not _is_first_process():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.settings.overwrite_output_dir and not self.settings.resume_from_checkpoint:
            _clear(self.folder)
        text = yaml.safe_dump(options.public(self.settings, **inputs), sort_keys=False)
        (self.folder / "settings.yaml").write_text(text, encoding="utf-8")

    def ready(self, objective: Objective, rows: Rows) -> None:
        """Make the last choices about the models, and say what is going to happen."""
        logger.info("data       %d questions, %d distinct passages", len(rows), len(rows.passages))
        for name, model in objective.models().items():
            if self.settings.gradient_checkpointing:
                model.checkpoint_activations()
            weights, trained = loading.parameter_counts(model)
            logger.info("%-9s  %s weights, %s trained", name, f"{weights:,}", f"{trained:,}")
        logger.info("machine    %s, %s", self.placement.device, self.placement.precision)

    def finish(self, objective: Objective, *, advice: str) -> None:
        """Export the models, push them if asked, and say what is where and what to do next."""
        if not _is_first_process():
            return
        growing = self.folder / checkpoints.WRITING / "export"
        shutil.rmtree(growing, ignore_errors=True)
        with loading.quiet_bars():
            objective.export(growing)
        for name in objective.models():
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (growing / name).rename(self.folder / name)
            logger.info("%-9s  %s", name, self.folder / name)
        shutil.rmtree(self.folder / checkpoints.WRITING, ignore_errors=True)
        logger.info("metrics    %s", self.folder / "metrics.jsonl")
        logger.info("settings   %s (a --config for the same run)", self.folder / "settings.yaml")
        if self.settings.hub_model_id:
            self._push(self.settings.hub_model_id)
        logger.info("next       %s", advice)

    def _push(self, repository: str) -> None:
        from huggingface_hub import HfApi

        try:
            url = HfApi(token=self.settings.hub_token).upload_folder(
                repo_id=repository,
                folder_path=self.folder,
                allow_patterns=[f"{name}*" for name in _WRITTEN],
                commit_message="Upload models tuned with DALM",
            )
        except Exception as error:
            raise UserError(
                f"the push to {repository} failed ({_first_line(error)}); nothing is lost: "
                f"hf upload {repository} {self.folder}"
            ) from error
        logger.info("pushed     %s", url)


def parts(choice: options.Part | None) -> set[str]:
    """Return the models that an option like --use-peft means."""
    return {"retriever", "generator"} if choice == "both" else {choice} if choice else set()


def check_negatives(examples: Sequence[Example], settings: options.Optimisation) -> None:
    """Refuse what would leave a question without a negative."""
    if settings.per_device_train_batch_size < 2:
        raise UserError(
            "--per-device-train-batch-size 1: the negatives are the batch's other passages; "
            "use 2 or more"
        )
    distinct = {example.passage.id for example in examples if example.passage}
    if len(distinct) < 2:
        raise UserError("the table has one distinct passage: nothing to tell it apart from")


def start(settings: Any) -> TrainingRun:
    """Refuse what can't work here and now, before anything is read or loaded.

    Raises:
        UserError: a value out of range, an output folder in use, no such device, tracker or hub.
    """
    options.check(settings)
    folder = Path(settings.output_dir)
    if _is_first_process():
        _check_folder(folder, settings)
    placement = loading.place(settings.device, settings.precision)
    if settings.use_bnb:
        if not _covers(settings.use_peft, settings.use_bnb):
            raise UserError("--use-bnb: 4-bit weights can't be trained themselves; add --use-peft")
        loading.check_four_bit(placement.device)
    trackers = _trackers(settings)
    if settings.hub_model_id and _is_first_process():
        _check_hub(settings.hub_model_id, settings.hub_token)
    return TrainingRun(settings, folder, placement, trackers)


def _covers(use_peft: Any, use_bnb: Any) -> bool:
    return bool(use_peft) and use_peft in (use_bnb, "both", True)


def _check_folder(folder: Path, settings: options.Run) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output-dir {folder} is a file; name a folder")
    if settings.resume_from_checkpoint:
        checkpoints.find(settings.resume_from_checkpoint, folder)
    elif not settings.overwrite_output_dir:
        there = next((name for name in _WRITTEN if (folder / name).exists()), None)
        if there is not None:
            resumable = " or --resume-from-checkpoint latest" if checkpoints.steps(folder) else ""
            raise UserError(
                f"--output-dir {folder} holds a run ({there}); name another folder, "
                f"or add --overwrite-output-dir{resumable}"
            )


def _clear(folder: Path) -> None:
    """Delete what an earlier run wrote, and nothing else that may lie there."""
    for path in [folder / name for name in (*_WRITTEN, checkpoints.WRITING)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for _, path in checkpoints.steps(folder):
        shutil.rmtree(path)


def _trackers(settings: options.Run) -> list[str]:
    wanted = settings.report_to
    if not settings.with_tracking:
        if wanted is not None:
            raise UserError(f"--report-to {wanted} has no effect without --with-tracking; add it")
        return []
    if wanted in (None, "all"):
        found = [name for name, module in _TRACKERS.items() if importlib.util.find_spec(module)]
        text = ", ".join(found) or "none is installed; metrics.jsonl is always written"
        logger.info("trackers: %s", text)
        return found
    assert wanted is not None
    if importlib.util.find_spec(_TRACKERS[wanted]) is None:
        raise UserError(f"--report-to {wanted}: not installed; pip install {_TRACKERS[wanted]}")
    return [wanted]


def _check_hub(repository: str, token: str | None) -> None:
    """Make the repository now: a wrong token shouldn't show after hours of training."""
    from huggingface_hub import HfApi

    try:
        HfApi(token=token).create_repo(repository, exist_ok=True)
    except Exception as error:
        raise UserError(
            f"--hub-model-id {repository}: the hub refused or is out of reach "
            f"({_first_line(error)}); log in with `hf auth login`, or leave it out"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"
