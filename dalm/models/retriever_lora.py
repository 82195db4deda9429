"""Choose the layers of a retriever that LoRA adapts, or say why it takes no adapters."""

import math
from collections.abc import Callable
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from torch import nn

from dalm.errors import UserError
from dalm.models.embedding_model import pooling_of, transformers_of
from dalm.models.lora_targets import Targets, lora_targets


def check_takes_adapters(model: SentenceTransformer, name: str) -> None:
    """Refuse adapters on a model without a transformer, or with one for each side.

    Raises:
        UserError: says what the model is, and what to leave out.
    """
    found = transformers_of(model)
    if isinstance(model[0], Router) or len(found) > 1:
        raise UserError(
            f"retriever {name} has modules of their own for queries and passages, which adapters "
            "aren't supported for; train its weights: leave out --use-peft and --train-encoders "
            "query"
        )
    if not found:
        raise UserError(
            f"retriever {name} has no layers for LoRA: {pooling_of(model, 'query')}; train its "
            "weights: leave out --use-peft and --train-encoders query"
        )


def retriever_targets(
    model: SentenceTransformer, name: str, rank: int, run: Callable[[], Any]
) -> Targets:
    """Return the layers that LoRA adapts by default: linear ones, else convolutions of width 1.

    `run` is a forward pass in training mode. A pooler is never adapted: it has no part in the loss,
    so an adapter on it would get no gradient.

    Raises:
        UserError: there are no such layers, or none that take adapters of this rank.
    """
    [module] = transformers_of(model)
    chosen = lora_targets(module.model, run)
    names = [key for key in chosen.names if "pooler" not in key.split(".")]
    if names:
        return Targets(names, [key for key in chosen.left_out if "pooler" not in key.split(".")])
    wide = {
        key: layer
        for key, layer in module.model.named_modules()
        if isinstance(layer, nn.Conv1d) and layer.kernel_size == (1,)
    }
    kind = type(module.model).__name__
    if not wide:
        raise UserError(
            f"retriever {name}: LoRA finds no linear layers in {kind}; name some with "
            "--lora-target-modules, or leave out --use-peft"
        )
    groups = math.lcm(*(layer.groups for layer in wide.values()))
    if rank % groups:
        raise UserError(
            f"--lora-rank {rank}: the layers of {kind} have {groups} groups; use a multiple of "
            f"{groups}"
        )
    return Targets(list(wide), [])
