"""Load an export again, from another working directory, and compare it with the model in memory.

A model of up to `WHOLE` bytes is loaded a second time, whole, and has to give the same vectors or
log-probabilities for a few texts. Of a larger one, or where memory doesn't suffice for two, the
configuration and the tokenizer are loaded, and every tensor in its files is compared with the one
in memory, one at a time.
"""

import logging
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from dalm.errors import UserError
from dalm.models import adapter_base, loading, model_merging
from dalm.models.generator import Generator
from dalm.models.reranker import Reranker, open_reranker
from dalm.models.reranker_checks import PROBES
from dalm.models.retriever import Retriever

logger = logging.getLogger(__name__)

Model = Retriever | Generator | Reranker
"""What training exports."""
Role = Literal["retriever", "generator", "reranker"]
_ROLES: dict[type[Model], Role] = {
    Retriever: "retriever",
    Generator: "generator",
    Reranker: "reranker",
}
_OUTPUTS = {"retriever": "vectors", "generator": "log-probabilities", "reranker": "scores"}
WHOLE = 2 * 2**30
"""Bytes of weights up to which a second copy is loaded."""
_PREFIXES = ("", "model.", "model.0.model.")
"""What names in memory have before those in files."""


def role_of(model: Model) -> Role:
    """Return what a model is for."""
    return next(role for kind, role in _ROLES.items() if isinstance(model, kind))


def check_export(model: Model, folder: Path) -> str:
    """Load what `model` was exported to, compare, and return in words what was compared.

    Raises:
        UserError: it can't be loaded, or gives something else.
    """
    folder = folder.resolve()
    with loading.elsewhere():
        if sum(p.numel() * p.element_size() for p in model.parameters()) <= WHOLE:
            try:
                return _compare_outputs(model, folder)
            except (torch.OutOfMemoryError, MemoryError, UserError) as error:
                cause = error.__cause__ if isinstance(error, UserError) else error
                if not isinstance(cause, torch.OutOfMemoryError | MemoryError):
                    raise
                logger.info("checked    not with a second copy: it doesn't fit into memory")
        return _compare_weights(model, folder)


def _compare_outputs(model: Model, folder: Path) -> str:
    found, expected = _outputs_of_both(model, folder)
    difference = float((found - expected).abs().max())
    limit = model_merging.TOLERANCE if model.placement.precision == "fp32" else 0.1
    if not difference <= limit:  # NaN is refused, too
        raise UserError(
            f"the export {folder} doesn't give what the model in memory gives: they differ by "
            f"{difference:.2g}; train from the last checkpoint again, and report the model"
        )
    what = _OUTPUTS[role_of(model)]
    return f"loads from another folder, with the same {what} (within {difference:.1g})"


def _outputs_of_both(model: Model, folder: Path) -> tuple[Tensor, Tensor]:
    """Return what the export and the model give, in units in which their differences compare."""
    if isinstance(model, Reranker):
        expected = model.logits(PROBES)
        unit = max(1.0, float(expected.abs().max()))
        return open_reranker(str(folder), model.placement).logits(PROBES) / unit, expected / unit
    role: model_merging.Role = "retriever" if isinstance(model, Retriever) else "generator"
    again = model_merging.load(role, str(folder), model.placement)
    with model.placement.autocast():
        return model_merging.outputs(again), model_merging.outputs(model)


def _compare_weights(model: Model, folder: Path) -> str:
    """Load configuration and tokenizer, and compare every tensor in the files with its original."""
    base = adapter_base.base_of(folder)
    trusted = {"trust_remote_code": model.placement.trust_remote_code}
    role = role_of(model)
    loading.loaded(lambda: AutoTokenizer.from_pretrained(folder, **trusted), str(folder), role)
    loading.loaded(
        lambda: AutoConfig.from_pretrained(base or folder, **trusted), base or str(folder), role
    )
    live = {name.replace(".default.", "."): w for name, w in model.state_dict().items()}
    equal, unknown = 0, 0
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]):
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118  (no mapping)
                original = _original(live, name)
                if original is None:
                    unknown += 1
                elif _same(stored.get_tensor(name), original):
                    equal += 1
                else:
                    raise UserError(
                        f"the export {folder} doesn't hold what was trained: {name} in "
                        f"{file.name} differs; train from the last checkpoint again"
                    )
    if not equal:
        raise UserError(f"the export {folder} holds no weights of the model in memory; report it")
    more = f" ({unknown} under other names weren't)" if unknown else ""
    return f"configuration and tokenizer load from another folder, {equal} tensors compared{more}"


def _original(live: dict[str, Tensor], name: str) -> Tensor | None:
    short = name.removeprefix("base_model.model.")
    names = (prefix + each for each in (name, short) for prefix in _PREFIXES)
    return next((live[each] for each in names if each in live), None)


def _same(stored: Tensor, original: Tensor) -> bool:
    return stored.shape == original.shape and torch.equal(
        stored, original.detach().to("cpu", stored.dtype)
    )
