"""Describe and hash what a model computes, for the keys of caches."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from tokenizers import Tokenizer
from torch import Tensor, nn

from dalm.models.generator import Generator
from dalm.models.loading import hash_weights

# Fields of a configuration that don't change what a model computes.
_VOLATILE = {"_name_or_path", "transformers_version", "architectures", "gradient_checkpointing"}


def plain_config(config: Any) -> dict[str, Any]:
    """Return a model's configuration without where it is from and what made it."""
    return {name: value for name, value in config.to_dict().items() if name not in _VOLATILE}


def tokenizer_configuration(tokenizer: Any) -> Any:
    """Return a tokenizer's configuration, without the padding and truncation of its last call."""
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(fast, Tokenizer):
        return [tokenizer.get_vocab(), tokenizer.special_tokens_map]
    config = json.loads(fast.to_str())
    return {name: value for name, value in config.items() if name not in ("truncation", "padding")}


def adapter_scalings(model: nn.Module) -> list[Any]:
    """Return the scaling of each adapter layer: it is no weight."""
    return [
        [name, getattr(module, "scaling", None)]
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]


def hash_of(parts: Any, weights: Iterable[tuple[str, Tensor]]) -> str:
    """Return a hash of what decides a model's results: `parts`, as JSON, and its weights."""
    text = json.dumps(parts, sort_keys=True, default=str)
    hashed = hashlib.blake2b(text.encode(), digest_size=16)
    hash_weights(hashed, weights)
    return hashed.hexdigest()


def generator_fingerprint(generator: Generator) -> str:
    """Return a hash of a generator's weights, adapters, tokenizer, prompt, length and precision."""
    parts = [
        *(generator.max_length, generator.placement.precision, asdict(generator.texts)),
        *(generator.frame.tokens(), plain_config(generator.causal.config)),
        *(tokenizer_configuration(generator.tokenizer), adapter_scalings(generator.model)),
    ]
    return hash_of(parts, generator.model.state_dict().items())
