"""Keep a training run's output folder: check and claim it, write settings and models, push them."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi

from dalm import artifacts, progress
from dalm import config as options
from dalm.distributed import is_main
from dalm.errors import UserError, reason_of
from dalm.models import loading
from dalm.models.export_check import check_export, role_of
from dalm.redaction import redacted
from dalm.training import checkpoints, metrics_log, model_card, resumption
from dalm.training.objectives.objective import Objective

logger = logging.getLogger(__name__)

SETTINGS = "settings.yaml"
MODELS = ("retriever", "generator", "reranker")
WRITTEN = (*MODELS, SETTINGS, metrics_log.FILE, "bits_per_byte.json")
"""Files and folders of a run, besides checkpoints."""
_OPTION = "--output-dir"


class RunFolder:
    """The folder that a run writes to; only the main process writes.

    Raises:
        UserError: it can't be written, or holds a run that isn't to be replaced or resumed.
    """

    def __init__(self, settings: options.Training, inputs: Mapping[str, str]) -> None:
        self.path = Path(settings.output_dir)
        self.settings, self.inputs = settings, inputs
        if is_main():
            artifacts.check_folder(_OPTION, self.path)
            artifacts.check_unclaimed(self.path, _OPTION)
        self.checkpoint: Path | None = None
        """The checkpoint to resume from, as the main process has found it."""
        wanted = settings.resume_from_checkpoint
        if wanted and is_main():
            self.checkpoint = checkpoints.find(wanted, self.path)
            resumption.check_options(self.checkpoint, settings)
        if is_main():
            self._check_content()

    @property
    def _continues(self) -> bool:
        """Whether the run in this folder is resumed, and not one of another folder."""
        here = self.checkpoint is not None and self.checkpoint.parent.resolve()
        return here == self.path.resolve()

    def _check_content(self) -> None:
        if not self._continues and not self.settings.overwrite_output_dir:
            found = next((name for name in WRITTEN if (self.path / name).exists()), None)
            if found is not None:
                resume = (
                    " or --resume-from-checkpoint latest" if checkpoints.steps(self.path) else ""
                )
                raise UserError(
                    f"{_OPTION} {self.path} holds a run ({found}); name another folder, "
                    f"or add --overwrite-output-dir{resume}"
                )

    @contextmanager
    def open(self) -> Iterator[None]:
        """Claim the folder for the block, and clear the run that is to be replaced.

        It is called when data and models are loaded, so that a mistake in them costs no old run.

        Raises:
            UserError: another process is writing there.
        """
        if not is_main():
            yield
            return
        with artifacts.claim_folder(self.path, _OPTION):
            self._check_content()  # another process may have finished a run meanwhile
            if self.checkpoint is not None and not self.checkpoint.is_dir():
                raise UserError(
                    f"{self.checkpoint} was replaced by another process meanwhile; start again"
                )
            if self.settings.overwrite_output_dir and not self._continues:
                self._clear()
            if self.checkpoint is not None and not self._continues:
                metrics_log.copy(self.checkpoint.parent, self.path)
            if not (self.path / SETTINGS).exists():  # a resumed run replaces them when it is done
                self.write_settings()
            with self._cleared_on_error():
                yield

    @contextmanager
    def _cleared_on_error(self) -> Iterator[None]:
        """Delete what is unfinished if the block fails, and say how to resume from what is whole.

        On a full disk it would keep the disk full.
        """
        try:
            yield
        except BaseException as error:
            checkpoints.clear_unfinished(self.path)
            if not isinstance(error, Exception) or not (reason := artifacts.full_disk(error)):
                raise
            said = f"{self.path} can't be written: {reason}; free some space"
            said = str(error) if isinstance(error, UserError) else said
            raise UserError(f"{said}{checkpoints.how_to_resume(self.path)}") from error

    def _clear(self) -> None:
        """Delete what an earlier run wrote, and nothing else."""
        for path in [self.path / name for name in (*WRITTEN, checkpoints.WRITING)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for _, path in checkpoints.steps(self.path):
            shutil.rmtree(path)

    def write_settings(self) -> None:
        """Write settings.yaml, which `--config` takes for the same run."""
        artifacts.write_yaml(self.path / SETTINGS, options.public(self.settings, **self.inputs))

    def export(self, objective: Objective, data: str) -> None:
        """Write the objective's models and the settings, and push them to the hub if asked to.

        Each model gets a card and a manifest; `data` is the card's line on the training data. All
        are loaded again from another working directory and compared with those in memory before the
        first one takes its place.

        Raises:
            UserError: what was written isn't the model in memory, or the hub refuses it.
        """
        staging = self.path / checkpoints.WRITING / "export"
        shutil.rmtree(staging, ignore_errors=True)
        with progress.quiet_bars():
            objective.export(staging)
        models, checked = objective.models(), dict[str, str]()
        for name, model in models.items():
            weights = loading.parameter_counts(model)
            role = role_of(model)
            model_card.write(
                staging / name, role, self.settings, self.inputs, data=data, weights=weights
            )
            artifacts.seal(staging / name)
            checked[name] = check_export(model, staging / name)
        for name in models:
            artifacts.publish(staging / name, self.path / name)
            logger.info("%-9s  %s: %s", name, self.path / name, checked[name])
        shutil.rmtree(self.path / checkpoints.WRITING, ignore_errors=True)
        self.write_settings()
        logger.info("metrics    %s", self.path / metrics_log.FILE)
        logger.info("settings   %s (--config runs the same again)", self.path / SETTINGS)
        if self.settings.hub_model_id:
            _push(self.settings.hub_model_id, self.settings.hub_token, self.path)


def check_repository(repository: str, token: str | None) -> None:
    """Create the repository if need be, so that a wrong token shows before hours of training.

    Raises:
        UserError: the hub refuses, or is out of reach.
    """
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError("--hub-token: a token has no spaces or line breaks; copy it again")
    try:
        HfApi(token=token).create_repo(repository, private=True, exist_ok=True)
    except Exception as error:
        raise UserError(
            f"--hub-model-id {repository}: the hub refused or is out of reach "
            f"({_reason(error, token)}); log in with `hf auth login`, or leave it out"
        ) from error


def _push(repository: str, token: str | None, folder: Path) -> None:
    """Upload the models, settings and metrics of a run to the hub, with a card of the repository.

    Raises:
        UserError: the push failed; says how to repeat it by hand.
    """
    try:
        hub = HfApi(token=token)
        url = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[f"{name}*" for name in WRITTEN],
            commit_message="Upload models tuned with DALM",
        )
        models = [folder / name for name in MODELS if (folder / name).is_dir()]
        hub.upload_file(
            repo_id=repository,
            path_or_fileobj=model_card.repository_card(models).encode(),
            path_in_repo=model_card.CARD,
            commit_message="Add the repository's card",
        )
    except Exception as error:
        raise UserError(
            f"the push to {repository} failed ({_reason(error, token)}); nothing is lost: "
            f"hf upload {repository} {folder}"
        ) from error
    logger.info("pushed     %s", url)


def _reason(error: Exception, token: str | None) -> str:
    """Return the first line of an error, without the token in case it quotes the request."""
    return redacted(reason_of(error), token)
