"""A training run from the outside: what is refused before it starts, its folder, its last lines."""

import importlib.util
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from transformers import set_seed

from dalm import config as options
from dalm.distributed import is_main
from dalm.errors import UserError
from dalm.models import loading
from dalm.models.generator import Generator
from dalm.models.loading import Placement
from dalm.models.retriever import Retriever
from dalm.records import Example
from dalm.training import checkpoints, model_card
from dalm.training.data.batches import TrainingRows
from dalm.training.objectives.objective import Objective

logger = logging.getLogger(__name__)

# Each is a module and a distribution of the same name.
_TRACKERS = ("tensorboard", "wandb", "mlflow", "comet_ml", "clearml", "trackio")
_SETTINGS = "settings.yaml"
_MODELS = ("retriever", "generator")
_WRITTEN = (*_MODELS, _SETTINGS, "metrics.jsonl", "bits_per_byte.json")
_LORA = ("use_peft", "lora_rank", "lora_alpha", "lora_target_modules")


@dataclass(frozen=True)
class TrainingRun:
    """A run that may start."""

    settings: options.Training
    inputs: dict[str, str]
    """Table and models, by the names of the command's arguments."""
    folder: Path
    placement: Placement
    trackers: list[str]
    said: dict[str, str] = field(default_factory=dict)
    """What the model cards will say of the data."""

    def place(self, *, lora: bool, four_bit: bool) -> Placement:
        """Return how to hold a model's weights: frozen ones may be small."""
        return replace(self.placement, frozen=lora, four_bit=four_bit)

    def add_lora(self, model: Retriever | Generator, task: str, **options: bool) -> None:
        """Freeze a model and give it the adapters that the settings ask for.

        Raises:
            UserError: layers that it doesn't have.
        """
        given = self.settings
        config = loading.lora(
            rank=given.lora_rank,
            alpha=given.lora_alpha,
            dropout=given.lora_dropout,
            targets=given.lora_target_modules,
            task=task,
        )
        try:
            model.add_lora(config, **options)
        except ValueError as error:
            raise UserError(
                f"--lora-target-modules {' '.join(given.lora_target_modules or ())}: "
                f"{_first_line(error).rstrip('.')}; leave it out to adapt every linear layer"
            ) from error

    def ready(self, objective: Objective, rows: TrainingRows) -> None:
        """Make the last choices about the models, and say what is going to happen."""
        self.said["data"] = rows.describe()
        logger.info("data       %s", self.said["data"])
        for name, model in objective.models().items():
            if self.settings.gradient_checkpointing:
                model.checkpoint_activations()
            weights, trained = loading.parameter_counts(model)
            logger.info("%-9s  %s weights, %s trained", name, f"{weights:,}", f"{trained:,}")
        logger.info("machine    %s, %s", self.placement.device, self.placement.precision)

    def open(self) -> None:
        """Make the folder ready, once tables and models are read and an old run may be replaced."""
        if not is_main():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.settings.overwrite_output_dir and not self.settings.resume_from_checkpoint:
            _clear(self.folder)
        if not (self.folder / _SETTINGS).exists():  # a resumed run's stay until it has ended well
            self._write_settings()

    def _write_settings(self) -> None:
        text = yaml.safe_dump(options.public(self.settings, **self.inputs), sort_keys=False)
        (self.folder / _SETTINGS).write_text(text, encoding="utf-8")

    def finish(self, objective: Objective, *, advice: str) -> None:
        """Export the models, push them if asked, and say what is where and what to do next."""
        if not is_main():
            return
        growing = self.folder / checkpoints.WRITING / "export"
        shutil.rmtree(growing, ignore_errors=True)
        with loading.quiet_bars():
            objective.export(growing)
        for name, model in objective.models().items():
            self._write_card(growing / name, name, model)
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (growing / name).rename(self.folder / name)
            logger.info("%-9s  %s", name, self.folder / name)
        shutil.rmtree(self.folder / checkpoints.WRITING, ignore_errors=True)
        self._write_settings()
        logger.info("metrics    %s", self.folder / "metrics.jsonl")
        logger.info("settings   %s (a --config for the same run)", self.folder / _SETTINGS)
        if self.settings.hub_model_id:
            self._push(self.settings.hub_model_id)
        logger.info("next       %s", advice)

    def _write_card(self, folder: Path, name: str, model: Retriever | Generator) -> None:
        model_card.write(
            folder,
            "retriever" if name == "retriever" else "generator",
            self.inputs.get(f"{name}_name_or_path", model_card.SCRATCH),
            self.settings,
            self.inputs,
            data=self.said.get("data", ""),
            weights=loading.parameter_counts(model),
        )

    def _push(self, repository: str) -> None:
        from huggingface_hub import HfApi

        try:
            hub = HfApi(token=self.settings.hub_token)
            url = hub.upload_folder(
                repo_id=repository,
                folder_path=self.folder,
                allow_patterns=[f"{name}*" for name in _WRITTEN],
                commit_message="Upload models tuned with DALM",
            )
            models = [self.folder / name for name in _MODELS if (self.folder / name).is_dir()]
            hub.upload_file(
                repo_id=repository,
                path_or_fileobj=model_card.of_repository(models).encode(),
                path_in_repo=model_card.CARD,
                commit_message="Say what is here",
            )
        except Exception as error:
            reason = _without(_first_line(error), self.settings.hub_token)
            raise UserError(
                f"the push to {repository} failed ({reason}); nothing is lost: "
                f"hf upload {repository} {self.folder}"
            ) from error
        logger.info("pushed     %s", url)


def parts(choice: options.Part | None) -> set[str]:
    """Return the models that an option like --use-peft means."""
    return {"retriever", "generator"} if choice == "both" else {choice} if choice else set()


def check_negatives(examples: Sequence[Example], settings: options.Optimisation) -> None:
    """Refuse what would leave a question without a negative."""
    if all(example.negatives for example in examples):
        return
    if settings.per_device_train_batch_size < 2:
        raise UserError(
            "--per-device-train-batch-size 1: the negatives are the batch's other passages; "
            "use 2 or more, or give every question negatives of its own (dalm mine-negatives)"
        )
    distinct = {example.passage.id for example in examples if example.passage}
    if len(distinct) < 2:
        raise UserError("the table has one distinct passage: nothing to tell it apart from")


def start(settings: Any, **inputs: str) -> TrainingRun:
    """Refuse what can't work here and now, before anything is read or loaded; set the seed.

    `inputs` are the command's arguments: the table and the models.

    Raises:
        UserError: a value out of range, an output folder in use, no such model, device, tracker or
            hub.
    """
    options.check(settings)
    folder = Path(settings.output_dir)
    if is_main():
        _check_folder(folder, settings)
    for argument, name in inputs.items():
        if argument != "dataset_path":
            role = argument.removesuffix("_name_or_path")
            loading.check_model_name(name, role)
            if _trains(role, settings):
                loading.check_no_adapter(name, role)
    placement = loading.place(settings.device, settings.precision)
    if settings.use_bnb:
        if not _covers(settings.use_peft, settings.use_bnb):
            raise UserError("--use-bnb: 4-bit weights can't be trained themselves; add --use-peft")
        loading.check_four_bit(placement.device)
    trackers = _trackers(settings)
    if settings.hub_model_id and not settings.dry_run and is_main():
        _check_hub(settings.hub_model_id, settings.hub_token)
    set_seed(settings.seed)
    return TrainingRun(settings, inputs, folder, placement, trackers)


def _trains(role: str, settings: Any) -> bool:
    if role == "generator":
        return bool(getattr(settings, "train_generator", True))
    return getattr(settings, "train_encoders", "both") != "none"


def _covers(use_peft: Any, use_bnb: Any) -> bool:
    return bool(use_peft) and use_peft in (use_bnb, "both", True)


def _check_folder(folder: Path, settings: options.Run) -> None:
    options.check_output_dir(folder)
    if settings.resume_from_checkpoint:
        _check_lora(checkpoints.find(settings.resume_from_checkpoint, folder), settings)
    elif not settings.overwrite_output_dir:
        there = next((name for name in _WRITTEN if (folder / name).exists()), None)
        if there is not None:
            resumable = " or --resume-from-checkpoint latest" if checkpoints.steps(folder) else ""
            raise UserError(
                f"--output-dir {folder} holds a run ({there}); name another folder, "
                f"or add --overwrite-output-dir{resumable}"
            )


def _check_lora(checkpoint: Path, settings: options.Run) -> None:
    """Refuse other adapters than the checkpoint's: another alpha would load without a word."""
    file = checkpoint.parent / _SETTINGS
    before = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in _LORA:
        value = getattr(settings, name)
        if name in before and before[name] != value:
            raise UserError(
                f"--{name.replace('_', '-')} {value}: {checkpoint} was written with "
                f"{before[name]}; resume with the same, or start a run in another folder"
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
        return []
    if wanted in (None, "all"):
        found = [name for name in _TRACKERS if importlib.util.find_spec(name)]
        text = ", ".join(found) or "none is installed; metrics.jsonl is always written"
        logger.info("trackers: %s", text)
        return found
    assert wanted is not None
    if importlib.util.find_spec(wanted) is None:
        raise UserError(f"--report-to {wanted}: not installed; pip install {wanted}")
    return [wanted]


def _check_hub(repository: str, token: str | None) -> None:
    """Make the repository now: a wrong token shouldn't show after hours of training."""
    from huggingface_hub import HfApi

    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError("--hub-token: no token has blanks or line breaks in it; copy it again")
    try:
        HfApi(token=token).create_repo(repository, private=True, exist_ok=True)
    except Exception as error:
        reason = _without(_first_line(error), token)
        raise UserError(
            f"--hub-model-id {repository}: the hub refused or is out of reach "
            f"({reason}); log in with `hf auth login`, or leave it out"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _without(text: str, token: str | None) -> str:
    """Take the token out of an error's text, in case a library quotes its request."""
    return text.replace(token, "***") if token else text
