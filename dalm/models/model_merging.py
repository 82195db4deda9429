"""A tuned model's folder in; what it is, on which base, and where the merged one goes, out."""

import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from peft import PeftConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import AutoConfig

from dalm.artifacts import write_json
from dalm.config import check_output_dir
from dalm.errors import UserError
from dalm.models import loading
from dalm.models.batching import pad
from dalm.models.generator import Generator, load_generator
from dalm.models.retriever import Retriever, load_retriever

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


# FOLDED merging.py: A tuned model and its base in; one model of plain weights with the same outputs, out.

logger = logging.getLogger(__name__)

TOLERANCE = 2e-3
"""Largest difference of outputs that arithmetic in fp32 explains: of a coordinate of a unit vector
times the root of its dimension, or of a token's log-probability in nats."""
PROBES = (
    "Where?",
    "What does the passage say about the price of copper in 1913?",
    "The valve opens at nine bars; it is closed again by hand, and nobody has to wait for it.",
    "Answer the question from the passage.\n\nPassage:\nTwo keys hang in the hall.\n\nQuestion:\n"
    "How many keys?\n\nAnswer:\nTwo",
    "αβγ 中文 — naïve café, 3.14159 × 10⁻³; def f(x): return x ** 2",
)
"""Texts on which outputs are compared: short, long, with unusual signs."""


def load(
    role: Role, name: str, placement: loading.Placement, adapter: str | None = None
) -> Retriever | Generator:
    """Load a model to be merged, in fp32."""
    if role == "generator":
        return load_generator(name, placement, adapter=adapter)
    retriever = load_retriever(name, placement, adapter=adapter)
    if not any((Path(f or "") / "dalm.json").is_file() for f in (name, adapter)):
        # Nobody has said how long its texts are: the merged model takes what it takes.
        most = retriever.model.max_seq_length
        retriever.sides = {
            kind: replace(side, max_len=most or side.max_len)
            for kind, side in retriever.sides.items()
        }
    return retriever


def scale(model: nn.Module, weight: float) -> None:
    """Let adapters weigh `weight` of what they were trained to."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.scale_layer(weight)


@torch.no_grad()
def interpolate(tuned: nn.Module, base: nn.Module, weight: float) -> None:
    """Move a model's weights to weight · tuned + (1 − weight) · base (arXiv:2109.01903).

    Raises:
        UserError: the two are no models of one shape.
    """
    others = dict(base.named_parameters())
    shapes = {name: p.shape for name, p in others.items()}
    unlike = shapes.items() ^ {name: p.shape for name, p in tuned.named_parameters()}.items()
    if unlike:
        raise UserError(
            f"the two models can't be interpolated: {len({name for name, _ in unlike})} weights "
            f"differ in name or shape ({min(unlike)[0]} ...); is --base what was tuned?"
        )
    for name, parameter in tuned.named_parameters():
        parameter.lerp_(others[name].to(parameter), 1 - weight)


def fold(model: Retriever | Generator, base: str) -> Retriever | Generator:
    """Return the base with a model's adapters added to its weights; the model is used up.

    Raises:
        UserError: the sum is no number somewhere.
    """
    try:
        return _fold(model, base)
    except ValueError as error:  # of PEFT, which looks at the merged weights
        raise UserError(
            f"the adapter can't be folded in: {str(error).rstrip('.')}; use an earlier checkpoint's"
        ) from error


def _fold(model: Retriever | Generator, base: str) -> Retriever | Generator:
    if isinstance(model, Generator):
        model.model = model.model.merge_and_unload(safe_merge=True)
        return model
    layers = [(n, m) for n, m in model.model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in layers:
        layer.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(model.model.get_submodule(parent), last, layer.get_base_layer())
    # transformers remembers for good that there were adapters, and saves other names than a base's.
    fresh = load_retriever(base, model.placement)
    fresh.model.load_state_dict(model.model.state_dict())
    fresh.sides, fresh.model.prompts = model.sides, model.model.prompts
    return fresh


@torch.no_grad()
def outputs(model: Retriever | Generator, *, queries_alone: bool = False) -> Float[Tensor, "n"]:
    """Return vectors, each times its dimension's root, or the tokens' log-probabilities."""
    if isinstance(model, Retriever):
        sides = [model.encode_queries(PROBES)]
        sides += [] if queries_alone else [model.encode_passages(PROBES)]
        return torch.cat(sides).flatten() * math.sqrt(model.dim)
    rows = [tokens.tolist()[:64] for tokens in model.tokenise(PROBES)]
    ids, mask = (tensor.to(model.device) for tensor in pad(rows, model.pad_token))
    scored = mask.bool()
    scored[:, 0] = False
    with loading.evaluating(model):
        log_probs: Tensor = model.token_log_probs(ids, mask, scored)
    return log_probs.float().cpu()


def write(
    model: Retriever | Generator, growing: Path, dtype: torch.dtype, before: Float[Tensor, "n"]
) -> tuple[float, float]:
    """Write a merged model; return how far its outputs are from `before`, and what rounding did.

    Outputs are compared in fp32: before and after the merging, and of the rounded weights before
    and after they were written.

    Raises:
        UserError: they are further apart than arithmetic explains; nothing stays behind.
    """
    alone = before.numel() == len(PROBES) * getattr(model, "dim", 0)
    shutil.rmtree(growing, ignore_errors=True)
    merged = _apart(before, outputs(model, queries_alone=alone), "merging")
    _cast(model, dtype)
    with loading.quiet_bars():
        model.export(growing)
    _cast(model, torch.float32)
    rounded = outputs(model, queries_alone=alone)
    role: Role = "retriever" if isinstance(model, Retriever) else "generator"
    try:
        again = outputs(load(role, str(growing), model.placement), queries_alone=alone)
        written = _apart(rounded, again, "writing")
    except UserError:
        shutil.rmtree(growing)
        raise
    return max(merged, written), float((rounded - before).abs().max())


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights a type, and leave alone what isn't written, such as rotary frequencies."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _apart(before: Tensor, after: Tensor, what: str) -> float:
    difference = float((after - before).abs().max())
    if not difference <= TOLERANCE:  # a NaN is no agreement
        raise UserError(
            f"{what} changed the outputs by {difference:.2g}, more than the {TOLERANCE:g} that "
            "arithmetic explains; nothing was written: use the adapter as it is"
        )
    return difference


def mark_query_encoder(folder: Path, base: str) -> None:
    """Write down that a retriever embeds queries alone, and which one its passages belong to."""
    file = folder / "dalm.json"
    write_json(file, json.loads(file.read_text()) | {"passages_by": base})
