"""Name the base of LoRA adapters so that it is found from anywhere, and say when it is gone."""

from pathlib import Path

from dalm.artifacts import write_json
from dalm.errors import UserError
from dalm.file_reading import read_json, user_path
from dalm.models.loading import ADAPTER


def base_of(folder: str | Path) -> str | None:
    """Return the base that a folder's LoRA adapters name; None: no adapters, or none named."""
    file = user_path(folder) / ADAPTER
    if not file.is_file():
        return None
    named = read_json(file, "export the model again").get("base_model_name_or_path")
    return named if isinstance(named, str) else None


def check_base(name: str, role: str) -> None:
    """Refuse LoRA adapters whose base was a folder that isn't there any more.

    Raises:
        UserError: names the base, and what to do.
    """
    base = base_of(name)
    if base is not None and Path(base).is_absolute() and not Path(base).is_dir():
        raise UserError(
            f"{role} {name} is a LoRA adapter on {base}, which isn't there; put the base back, or "
            f"fold the adapter into a copy of it: dalm merge {name} --base COPY --output-dir MERGED"
        )


def name_base(folder: Path) -> None:
    """Let a folder's LoRA adapters name a base that is a folder by its absolute path.

    A relative one is lost in any other working directory, or taken for a model on the hub.
    """
    base = base_of(folder)
    if base is not None and user_path(base).is_dir():
        config = read_json(folder / ADAPTER)
        config["base_model_name_or_path"] = str(user_path(base).resolve())
        write_json(folder / ADAPTER, config)
