"""Fold LoRA adapters into their base or interpolate weights, and verify the outputs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from peft import PeftConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import AutoConfig

from dalm import artifacts, file_reading, progress
from dalm.errors import UserError, reason_of
from dalm.models import loading
from dalm.models.batching import pad
from dalm.models.embedding_model import saved_kind
from dalm.models.generator import Generator, load_generator
from dalm.models.retriever import Retriever, load_retriever

Role = Literal["retriever", "generator"]
_REMEDY = "copy or export the model again"
TOLERANCE = 2e-3
"""Largest difference of outputs that fp32 arithmetic explains: of a coordinate of a unit vector
times the square root of its dimension, or of a token's log-probability in nats."""
PROBES = (
    "Where?",
    "What does the passage say about the price of copper in 1913?",
    "The valve opens at nine bars; it is closed again by hand, and nobody has to wait for it.",
    "Answer the question from the passage.\n\nPassage:\nTwo keys hang in the hall.\n\nQuestion:\n"
    "How many keys?\n\nAnswer:\nTwo",
    "αβγ 中文 — naïve café, 3.14159 × 10⁻³; def f(x): return x ** 2",
)
"""Texts on which outputs are compared: short, long, and with unusual characters."""


# The tuned model's folder


def role_of(folder: Path) -> Role:
    """Return whether a folder holds a retriever or a generator, by its files.

    Raises:
        UserError: no folder, no model in it, or a damaged file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that a training command wrote")
    loading.check_whole(folder, "model")
    if (folder / "modules.json").is_file():
        if saved_kind(str(folder), "cross-encoder") == "CrossEncoder":
            raise _reranker_error(folder)
        return "retriever"
    if loading.has_adapter(folder):
        task = file_reading.read_json(folder / loading.ADAPTER, _REMEDY).get("task_type")
        return "generator" if task == "CAUSAL_LM" else "retriever"
    if (folder / "config.json").is_file():
        config = file_reading.read_json(folder / "config.json", _REMEDY)
        architecture = (config.get("architectures") or [""])[0]
        if architecture.endswith("ForSequenceClassification"):
            raise _reranker_error(folder)
        causal = architecture.endswith(("ForCausalLM", "LMHeadModel"))
        return "generator" if causal else "retriever"
    inside = [name for name in ("retriever", "generator") if (folder / name).is_dir()]
    hint = f"; name {' or '.join(str(folder / name) for name in inside)}" if inside else ""
    raise UserError(
        f"{folder}: no model in this folder (no {loading.ADAPTER}, no config.json){hint}"
    )


def _reranker_error(folder: Path) -> UserError:
    return UserError(
        f"{folder} is a reranker, which is plain as it is: its weights need no merge and no export"
    )


def base_of(folder: Path, base: str | None, weight: float) -> str:
    """Return the base of a tuned model: `base` if given, else the one that its adapter names.

    Raises:
        UserError: no base is known, or what is in the folder can't be scaled by `weight`.
    """
    if not loading.has_adapter(folder):
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
    kind = getattr(config.peft_type, "value", None) or "of no kind"
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


def dtype_of(base: str, option: str, *, trust_remote_code: bool = False) -> torch.dtype:
    """Return the data type to write: the one that `--dtype` names, or that of the base's files."""
    if option != "auto":
        return loading.DTYPES[option]
    try:
        stored = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code).dtype
    except (OSError, ValueError):  # a folder in which the model has a folder of its own
        stored = None
    return stored if stored in loading.DTYPES.values() else torch.float32


# Merging


class Merged(NamedTuple):
    """A model with merged weights, in fp32, and the outputs that it must have."""

    model: Retriever | Generator
    expected: Float[Tensor, "n"]
    queries_only: bool
    """Only queries are embedded by the merged weights; passages are by the base."""


def merge_weights(
    role: Role, tuned: Path, base: str, weight: float, placement: loading.Placement
) -> Merged:
    """Return base + `weight` · (tuned − base), by the tuned model's adapters or its full weights.

    Raises:
        UserError: the two can't be merged, or a merged weight isn't finite.
    """
    if not loading.has_adapter(tuned):
        model = load(role, str(tuned), placement)
        interpolate(model, load(role, base, placement), weight)
        return Merged(model, outputs(model), queries_only=False)
    model = load(role, base, placement, adapter=str(tuned))
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.scale_layer(weight)
    queries_only = isinstance(model, Retriever) and model.adapts_queries_alone
    expected = outputs(model, queries_only=queries_only)
    return Merged(fold_adapters(model, base), expected, queries_only)


def load(
    role: Role, name: str, placement: loading.Placement, adapter: str | None = None
) -> Retriever | Generator:
    """Load a model to be merged, in fp32."""
    if role == "generator":
        return load_generator(name, placement, adapter=adapter)
    retriever = load_retriever(name, placement, adapter=adapter)
    if not any((Path(folder or "") / "dalm.json").is_file() for folder in (name, adapter)):
        # The lengths of its training aren't known: the merged model takes its maximum.
        retriever.sides = {
            kind: replace(side, max_len=retriever.longest or side.max_len)
            for kind, side in retriever.sides.items()
        }
    return retriever


@torch.no_grad()
def interpolate(tuned: nn.Module, base: nn.Module, weight: float) -> None:
    """Set a model's weights to weight · tuned + (1 − weight) · base (arXiv:2109.01903).

    Raises:
        UserError: names or shapes of the weights differ.
    """
    base_weights = dict(base.named_parameters())
    shapes = {name: parameter.shape for name, parameter in base_weights.items()}
    tuned_shapes = {name: parameter.shape for name, parameter in tuned.named_parameters()}
    differing = shapes.items() ^ tuned_shapes.items()
    if differing:
        raise UserError(
            f"the two models can't be interpolated: {len({name for name, _ in differing})} weights "
            f"differ in name or shape ({min(differing)[0]} ...); is --base what was tuned?"
        )
    for name, parameter in tuned.named_parameters():
        parameter.lerp_(base_weights[name].to(parameter), 1 - weight)


def fold_layers(model: nn.Module) -> None:
    """Add a model's adapters to the weights of their layers, and take them off.

    Raises:
        NotImplementedError, ValueError: PEFT can't merge a layer, or a weight isn't finite then.
    """
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in layers:
        layer.merge(safe_merge=True)
        model.set_submodule(name, layer.get_base_layer())


def fold_adapters(model: Retriever | Generator, base: str) -> Retriever | Generator:
    """Return the base with a model's adapters added to its weights; the model is consumed.

    Raises:
        UserError: a merged weight isn't finite.
    """
    try:
        if isinstance(model, Generator):
            model.model = model.model.merge_and_unload(safe_merge=True)
            return model
        fold_layers(model.model)
    except NotImplementedError as error:  # of grouped convolutions, as SqueezeBERT has them
        raise UserError(
            f"the adapter can't be folded in: {reason_of(error)}; use it as it is"
        ) from error
    except ValueError as error:  # PEFT's check of the merged weights
        raise UserError(
            f"the adapter can't be folded in: {reason_of(error)}; use an earlier checkpoint's"
        ) from error
    # transformers keeps a note that there were adapters, and saves other names than a base's.
    fresh = load_retriever(base, model.placement)
    fresh.model.load_state_dict(model.model.state_dict())
    fresh.sides, fresh.model.prompts = model.sides, model.model.prompts
    return fresh


# Outputs before and after


@torch.no_grad()
def outputs(model: Retriever | Generator, *, queries_only: bool = False) -> Float[Tensor, "n"]:
    """Return what the probes give: vectors, or the log-probabilities of the tokens.

    Vectors are in units of their mean length over √dim.
    """
    if isinstance(model, Retriever):
        vectors = [model.encode_queries(PROBES)]
        if not queries_only:
            vectors.append(model.encode_passages(PROBES))
        found = torch.cat(vectors)
        unit = found.norm(dim=1).mean() / math.sqrt(model.dim)
        scaled: Tensor = found.flatten() / unit
        return scaled
    rows = [tokens.tolist()[:64] for tokens in model.tokenise(PROBES)]
    ids, mask = (tensor.to(model.device) for tensor in pad(rows, model.pad_token))
    scored = mask.bool()
    scored[:, 0] = False
    with loading.evaluating(model):
        log_probs: Tensor = model.token_log_probs(ids, mask, scored)
    return log_probs.float().cpu()


def write_model(
    merged: Merged, role: Role, base: str, folder: Path, dtype: torch.dtype
) -> tuple[float, float]:
    """Write a merged model; return the largest difference of outputs, and that due to `dtype`.

    Outputs are compared in fp32: before and after merging, and of the rounded weights before and
    after writing. The `dalm.json` of a retriever that embeds queries only names the base, which
    embeds the passages.

    Raises:
        UserError: outputs differ by more than fp32 arithmetic explains.
    """
    model, expected, queries_only = merged
    by_merging = _difference(expected, outputs(model, queries_only=queries_only), "merging")
    _cast(model, dtype)
    with progress.quiet_bars():
        model.export(folder)
    _cast(model, torch.float32)
    rounded = outputs(model, queries_only=queries_only)
    place = str(folder.resolve())
    with loading.elsewhere():
        written = load(role, place, model.placement)
    by_writing = _difference(rounded, outputs(written, queries_only=queries_only), "writing")
    if queries_only:
        file = folder / "dalm.json"
        artifacts.write_json(file, file_reading.read_json(file) | {"passages_by": base})
    return max(by_merging, by_writing), float((rounded - expected).abs().max())


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights, but not the buffers that aren't written, such as rotary frequencies."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _difference(before: Tensor, after: Tensor, step: str) -> float:
    difference = float((after - before).abs().max())
    if not difference <= TOLERANCE:  # NaN is refused, too
        raise UserError(
            f"{step} changed the outputs by {difference:.2g}, more than the {TOLERANCE:g} that "
            "arithmetic explains; nothing was written: use the adapter as it is"
        )
    return difference
