"""A tuned model's folder in; what it is, on which base, and where the merged one goes, out."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftConfig
from transformers import AutoConfig

from dalm.config import check_output_dir
from dalm.errors import UserError
from dalm.models import loading

Role = Literal["retriever", "generator"]
ADAPTER = "adapter_config.json"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def role_of(folder: Path) -> Role:
    """Return what a model folder is, by its files.

    Raises:
        UserError: no folder, or nothing in it that says so.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that a training command wrote")
    if (folder / "modules.json").is_file():
        return "retriever"
    if (folder / ADAPTER).is_file():
        task = json.loads((folder / ADAPTER).read_text()).get("task_type")
        return "generator" if task == "CAUSAL_LM" else "retriever"
    if (folder / "config.json").is_file():
        kinds = json.loads((folder / "config.json").read_text()).get("architectures") or [""]
        return "generator" if kinds[0].endswith(("ForCausalLM", "LMHeadModel")) else "retriever"
    inside = [name for name in ("retriever", "generator") if (folder / name).is_dir()]
    hint = f"; name {' or '.join(str(folder / name) for name in inside)}" if inside else ""
    raise UserError(f"{folder}: no model in this folder (no {ADAPTER}, no config.json){hint}")


def base_of(folder: Path, wanted: str | None, weight: float) -> str:
    """Return the base of a tuned model's folder, or `wanted`.

    Raises:
        UserError: there is none to be found, or what is there can't be scaled by `weight`.
    """
    if not (folder / ADAPTER).is_file():
        if wanted is None:
            raise UserError(
                f"{folder} holds whole weights, no adapter to fold in; to interpolate them, name "
                "the model that they were tuned from with --base, and a --weight"
            )
        if weight == 1:
            raise UserError(
                f"--weight 1: all of {folder} and nothing of {wanted}; use a weight under 1"
            )
        return wanted
    config = loading.loaded(lambda: PeftConfig.from_pretrained(str(folder)), str(folder), "adapter")
    _check_adapter(folder, config, weight)
    base = wanted or config.base_model_name_or_path
    if base is None:
        raise UserError(f"adapter {folder} doesn't name its base; name it with --base")
    return base


def _check_adapter(folder: Path, config: Any, weight: float) -> None:
    kind = config.peft_type.value
    if kind != "LORA":
        raise UserError(f"adapter {folder}: {kind}; only LoRA can be folded in")
    more = [
        name
        for name in ("modules_to_save", "trainable_token_indices")
        if getattr(config, name, None)
    ]
    more += ["bias"] if config.bias != "none" else []
    if weight != 1 and more:
        raise UserError(
            f"--weight {weight}: adapter {folder} holds more than LoRA ({', '.join(more)}), which "
            "can't be scaled; use --weight 1"
        )


def dtype_of(base: str, wanted: str) -> torch.dtype:
    """Return the type to write: the wanted one, or that of the base's stored weights."""
    if wanted != "auto":
        return TYPES[wanted]
    try:
        stored = AutoConfig.from_pretrained(base).dtype
    except (OSError, ValueError):  # a folder in which the model lies in a folder of its own
        stored = None
    return stored if stored in TYPES.values() else torch.float32


def check_output(output: Path, tuned: Path, overwrite: bool) -> Path:
    """Return the folder in which the model grows, beside the one that it goes to.

    Raises:
        UserError: the folder holds something, or is the tuned model's own.
    """
    check_output_dir(output)
    there, own = output.resolve(), tuned.resolve()
    if there == own or there in own.parents:
        raise UserError(f"--output-dir {output} holds what is to be merged; name another folder")
    if output.is_dir() and any(output.iterdir()):
        known = (output / "dalm.json").is_file()
        if not known:
            raise UserError(
                f"--output-dir {output} holds files, and no model of DALM's; name another folder"
            )
        if not overwrite:
            raise UserError(
                f"--output-dir {output} holds a model; name another folder, or add "
                "--overwrite-output-dir"
            )
    return output.with_name(f".{there.name}.writing")


def publish(growing: Path, output: Path) -> None:
    """Move a complete model to its place."""
    if output.exists():
        shutil.rmtree(output)
    growing.rename(output)
