"""Load and save an embedding model with sentence-transformers: its pooling, prompts and layout.

A bare encoder or decoder is pooled to one vector; a model that brings its modules keeps them. It is
saved in the layout that sentence-transformers 2 to 6, text-embeddings-inference and vLLM all read:
sentence-transformers 6 writes module paths and pooling settings that text-embeddings-inference
can't parse and that older versions of vLLM pool wrongly.
"""

import json
import re
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import cached_file

from dalm.artifacts import write_json
from dalm.errors import UserError
from dalm.models import loading

_OLD_MODULES = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm"}
_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def load_embedding_model(
    name: str, placement: loading.Placement, is_autoregressive: bool | None
) -> SentenceTransformer:
    """Load an embedding model whose embeddings are unit vectors.

    A bare decoder (autoregressive) is pooled by its last token, which is EOS, and a bare encoder by
    the mean; a model that brings its own pooling (`modules.json`) keeps it. `is_autoregressive`
    None: by the architecture.

    Raises:
        UserError: no embedding model for text, another pooling than its own, or an autoregressive
            model without EOS.
    """
    model = SentenceTransformer(
        name,
        device=str(placement.device),
        trust_remote_code=placement.trust_remote_code,
        model_kwargs=placement.weight_options(),
    )
    if model.transformers_model is not None:
        loading.check_weights(model.transformers_model, name, "retriever")
    if "text" not in getattr(model[0], "modality_config", {"text": {}}):
        raise UserError(f"retriever {name} takes no text; name an embedding model for text")
    _choose_pooling(model, name, is_autoregressive)
    if not any(isinstance(m, Normalize) for m in model):
        model.append(Normalize())
    # BERT's pooler: no embedding uses it, and DDP would wait for its gradient.
    for key, parameter in model.named_parameters():
        if "pooler" in key.split("."):
            parameter.requires_grad_(False)
    return model


def _choose_pooling(model: SentenceTransformer, name: str, is_autoregressive: bool | None) -> None:
    pooling = next((module for module in model if isinstance(module, Pooling)), None)
    if pooling is None:
        return
    if cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False) is not None:
        if is_autoregressive not in (None, pooling.pooling_mode == "lasttoken"):
            raise UserError(
                f"retriever {name} brings its own pooling, {pooling.pooling_mode}; "
                "leave out --is-autoregressive"
            )
        return
    if is_autoregressive is None:
        is_autoregressive = _is_decoder(model)
    pooling.pooling_mode = "lasttoken" if is_autoregressive else "mean"
    if is_autoregressive:
        _append_eos(model, name)


def _is_decoder(model: SentenceTransformer) -> bool:
    """Return whether the architecture has a causal language model and no masked one."""
    backbone = model.transformers_model
    kind = None if backbone is None else backbone.config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return causal and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _append_eos(model: SentenceTransformer, name: str) -> None:
    """Make the tokenizer append EOS to a text, so that the saved model does so, too."""
    tokenizer = model.tokenizer
    if tokenizer.eos_token_id is None:
        raise UserError(f"retriever {name}: autoregressive, but its tokenizer has no EOS token")
    ids = tokenizer("a").input_ids
    if ids[-1] != tokenizer.eos_token_id:
        tokenizer.add_bos_token = ids[0] == tokenizer.bos_token_id  # otherwise BOS is lost
        tokenizer.add_eos_token = True
        tokenizer.update_post_processor()
    assert tokenizer("a").input_ids[-1] == tokenizer.eos_token_id
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def save_embedding_model(model: SentenceTransformer, folder: Path, max_seq_length: int) -> None:
    """Save a model, or its adapter with the name of its base, in the layout that all servers read.

    Of three files the layout changed with sentence-transformers 6: those are written again.
    """
    model.max_seq_length = max_seq_length
    model.save_pretrained(str(folder), create_model_card=False)
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind in _OLD_MODULES:
            module["type"] = f"sentence_transformers.models.{kind}"
        if kind == "Transformer":
            file = folder / module["path"] / "sentence_bert_config.json"
            lower = json.loads(file.read_text()).get("do_lower_case", False)
            write_json(file, {"max_seq_length": max_seq_length, "do_lower_case": lower})
        if kind == "Pooling":
            file = folder / module["path"] / "config.json"
            write_json(file, _portable_pooling(json.loads(file.read_text())))
    write_json(folder / "modules.json", modules)


def _portable_pooling(config: dict[str, Any]) -> dict[str, Any]:
    modes = config["pooling_mode"]
    active = {modes} if isinstance(modes, str) else set(modes)
    return {
        "word_embedding_dimension": config["embedding_dimension"],
        **{key: mode in active for mode, key in _POOLING_KEYS.items()},
        "include_prompt": config["include_prompt"],
    }


# Prompts that embedding models were trained with but do not carry in their folders.
# Sources: the model cards of intfloat/e5-* and BAAI/bge-*.
_RETRIEVER_PROMPTS = (
    (re.compile(r"(^|[/_-])(multilingual-)?e5-(small|base|large)(-v2)?$"), "query: ", "passage: "),
    (
        re.compile(r"(^|[/_-])bge-(small|base|large)-en(-v1\.5)?$"),
        "Represent this sentence for searching relevant passages: ",
        "",
    ),
    (
        re.compile(r"(^|[/_-])bge-(small|base|large)-zh(-v1\.5)?$"),
        "为这个句子生成表示以用于检索相关文章：",
        "",
    ),
)


def retriever_prompts(name: str) -> tuple[str, str]:
    """Return the texts that an embedding model of this name wants before a query and a passage."""
    for pattern, query, passage in _RETRIEVER_PROMPTS:
        if pattern.search(name.rstrip("/")):
            return query, passage
    return "", ""
