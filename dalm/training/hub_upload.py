"""Push a run's models to a repository of the Hugging Face hub."""

import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi

from dalm.errors import UserError
from dalm.training import model_card

logger = logging.getLogger(__name__)


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


def push(repository: str, token: str | None, folder: Path, names: Sequence[str]) -> None:
    """Upload the named files and folders of a run, with a card of the repository.

    Raises:
        UserError: the push failed; says how to repeat it by hand.
    """
    try:
        hub = HfApi(token=token)
        url = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[f"{name}*" for name in names],
            commit_message="Upload models tuned with DALM",
        )
        models = [folder / name for name in names if (folder / name).is_dir()]
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
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.replace(token, "***") if token else line
