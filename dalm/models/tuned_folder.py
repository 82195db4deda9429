"""Tell what a tuned model's folder holds: its role, its base model and its data type."""

from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftConfig
from transformers import AutoConfig

from dalm import artifacts
from dalm.errors import UserError
from dalm.models import loading

Role = Literal["retriever", "generator"]
ADAPTER = "adapter_config.json"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_REMEDY = "copy or export the model again"


def has_adapter(folder: Path) -> bool:
    """Return whether a folder holds adapters instead of full weights."""
    return (folder / ADAPTER).is_file()


def role_of(folder: Path) -> Role:
    """Return whether a folder holds a retriever or a generator, by its files.

    Raises:
        UserError: no folder, no model in it, or a damaged file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that a training command wrote")
    if (folder / "modules.json").is_file():
        return "retriever"
    if has_adapter(folder):
        task = artifacts.read_json(folder / ADAPTER, _REMEDY).get("task_type")
        return "generator" if task == "CAUSAL_LM" else "retriever"
    if (folder / "config.json").is_file():
        config = artifacts.read_json(folder / "config.json", _REMEDY)
        architecture = (config.get("architectures") or [""])[0]
        causal = architecture.endswith(("ForCausalLM", "LMHeadModel"))
        return "generator" if causal else "retriever"
    inside = [name for name in ("retriever", "generator") if (folder / name).is_dir()]
    hint = f"; name {' or '.join(str(folder / name) for name in inside)}" if inside else ""
    raise UserError(f"{folder}: no model in this folder (no {ADAPTER}, no config.json){hint}")


def base_of(folder: Path, base: str | None, weight: float) -> str:
    """Return the base of a tuned model: `base` if given, else the one that its adapter names.

    Raises:
        UserError: no base is known, or what is in the folder can't be scaled by `weight`.
    """
    if not has_adapter(folder):
        if base is None:
            raise UserError(
                f"{folder} holds full weights, no adapter to fold in; to interpolate them, name "
                "the model that they were tuned from with --base, and a --weight"
            )
        if weight == 1:
            raise UserError(
                f"--weight 1: all of {folder} and nothing of {base}; use a weight under 1"
            )
        return base
    config = loading.loaded(lambda: PeftConfig.from_pretrained(str(folder)), str(folder), "adapter")
    _check_adapter(folder, config, weight)
    found = base or config.base_model_name_or_path
    if found is None:
        raise UserError(f"adapter {folder} doesn't name its base; name it with --base")
    return found


def _check_adapter(folder: Path, config: Any, weight: float) -> None:
    kind = config.peft_type.value
    if kind != "LORA":
        raise UserError(f"adapter {folder}: {kind}; only LoRA can be folded in")
    trained = [
        name
        for name in ("modules_to_save", "trainable_token_indices")
        if getattr(config, name, None)
    ]
    trained += ["bias"] if config.bias != "none" else []
    if weight != 1 and trained:
        raise UserError(
            f"--weight {weight}: adapter {folder} holds more than LoRA ({', '.join(trained)}), "
            "which can't be scaled; use --weight 1"
        )


def dtype_of(base: str, option: str) -> torch.dtype:
    """Return the data type to write: the one that `--dtype` names, or that of the base's files."""
    if option != "auto":
        return DTYPES[option]
    try:
        stored = AutoConfig.from_pretrained(base).dtype
    except (OSError, ValueError):  # a folder in which the model has a folder of its own
        stored = None
    return stored if stored in DTYPES.values() else torch.float32
