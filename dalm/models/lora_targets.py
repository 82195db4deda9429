"""Choose the layers of a model that LoRA adapts by default, by a forward pass.

PEFT's `all-linear` goes by types. It reaches layers whose weights a kernel reads without calling
them (Mamba), layers that aren't run (a decoder's cross-attention) and routers that return several
tensors, and takes the names of a mixture's dense layers for those of its fused experts.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

_FOR_MAMBA = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}
_NOT_FOR_MAMBA = {"out_proj"}
"""PEFT refuses these layers in these models: their training kernels don't call them."""


class Targets(NamedTuple):
    """Which layers are adapted, and what isn't, in words."""

    names: list[str]
    left_out: list[str]


def lora_targets(model: Any, run: Callable[[], Any]) -> Targets:
    """Return the linear layers that `run`, a forward pass in training mode, calls.

    The output head is left out, as by `all-linear`, and so are fused experts: LoRA on them takes no
    dropout, and as much memory as the experts in every step.
    """
    linear: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not model.get_output_embeddings()
    }
    called = {_kind(name) for name in _called(linear, run)}
    refused = _refused(model, {_leaf(name) for name in linear})
    # By kind: another token may be routed to another expert.
    names = [name for name in linear if _kind(name) in called and _leaf(name) not in refused]
    left_out = sorted({_named(name) for name in linear.keys() - set(names)})
    return Targets(names, [*left_out, *_other_weights(model)])


def _called(linear: dict[str, nn.Module], run: Callable[[], Any]) -> set[str]:
    """Return the layers that a forward pass calls and that return one tensor."""
    called = set[str]()

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                called.add(name)

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in linear.items()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _kind(name: str) -> str:
    """Return a layer's name without the numbers of layer and expert."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _named(name: str) -> str:
    """Return a layer's name within the part that has it, such as `mlp.up_proj`."""
    return ".".join(part for part in name.split(".")[-2:] if not part.isdecimal())


def _refused(model: Any, leaves: set[str]) -> set[str]:
    """Return the layers that PEFT refuses, or takes for those of fused experts."""
    refused = leaves & _NOT_FOR_MAMBA if model.config.model_type in _FOR_MAMBA else set[str]()
    for leaf in leaves:
        trial = LoraConfig(target_modules=[leaf])
        try:
            convert_peft_config_for_transformers(trial, model, None)
        except ValueError:  # "cannot convert w1 without also targeting w3"
            refused = refused | {leaf}
        if trial.target_parameters:
            refused = refused | {leaf}
    return refused


def _other_weights(model: Any) -> list[str]:
    """Return other weights of more than two dimensions, fused experts above all."""
    weights = {
        _named(name): weight
        for name, weight in model.named_parameters()
        if sum(size > 1 for size in weight.shape) > 2
    }
    return list(weights)


def described(targets: Targets) -> str:
    """Return in words what is adapted and what isn't."""
    adapted = ", ".join(sorted({_leaf(name) for name in targets.names}))
    return f"LoRA on {adapted}; not on {', '.join(targets.left_out)}"


def check_adapters(model: Any, run: Callable[[], Tensor]) -> None:
    """Refuse adapters that a forward and backward pass doesn't reach.

    Raises:
        ValueError: names a layer.
    """
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    try:
        score = run().sum()
        if score.requires_grad:
            score.backward()
        reached = {_kind(name) for name, weight in adapters.items() if weight.grad is not None}
    except (RuntimeError, AttributeError, TypeError) as error:  # a router's layer, for one
        raise ValueError(f"the adapted model doesn't run ({error})") from error
    finally:
        model.zero_grad(set_to_none=True)
    missed = sorted({_named(n.partition(".lora_")[0]) for n in adapters if _kind(n) not in reached})
    if missed:
        raise ValueError(f"no gradient reaches adapters on {', '.join(missed)}")
