"""Load and save an embedding model with sentence-transformers: its modules, pooling and layout.

A bare encoder or decoder is pooled to one vector; a model that brings its modules keeps them. It is
saved in the layout that sentence-transformers 2 to 6, text-embeddings-inference and vLLM all read:
sentence-transformers 6 writes module paths and pooling settings that text-embeddings-inference
can't parse and that older versions of vLLM pool wrongly.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    StaticEmbedding,
)
from sentence_transformers.util.misc import ORIGINAL_TRANSFORMER_MODELS
from torch import nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import cached_file

from dalm.artifacts import write_json
from dalm.errors import UserError
from dalm.file_reading import read_json
from dalm.models import loading
from dalm.models.retriever_sides import TASKS, Kind
from dalm.models.token_arrays import library_tokenizer

SIMILARITIES = ("cosine", "dot")
_OLD_MODULES = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "StaticEmbedding"}
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
    """Load an embedding model; one that is compared by the cosine gives unit vectors.

    A bare decoder (autoregressive) is pooled by its last token, which is EOS, and a bare encoder by
    the mean; a model that brings its own pooling (`modules.json`) keeps it. `is_autoregressive`
    None: by the architecture.

    Raises:
        UserError: no embedding model for text, another similarity than cosine and dot product,
            another pooling than its own, or an autoregressive model without EOS.
    """
    _check_kind(name)
    model = SentenceTransformer(
        name,
        device=str(placement.device),
        trust_remote_code=placement.trust_remote_code,
        model_kwargs=placement.weight_options(),
    )
    for each in transformers_of(model):
        loading.check_weights(each.model, name, "retriever")
        loading.check_tokenizer(each.tokenizer, name, "retriever")
        if "text" not in each.modality_config:
            raise UserError(f"retriever {name} takes no text; name an embedding model for text")
    if model.similarity_fn_name not in SIMILARITIES:
        raise UserError(
            f"retriever {name} compares by the {model.similarity_fn_name} distance; only cosine "
            "and dot product are searched and trained: name another model"
        )
    _choose_pooling(model, name, is_autoregressive)
    for each in transformers_of(model):
        choose_padding(each)
    if model.similarity_fn_name == "cosine" and not any(isinstance(m, Normalize) for m in model):
        model.append(Normalize())
    # BERT's pooler: no embedding uses it, and DDP would wait for its gradient.
    for key, parameter in model.named_parameters():
        if "pooler" in key.split("."):
            parameter.requires_grad_(False)
    return model


def _check_kind(name: str) -> None:
    """Refuse what sentence-transformers would convert to an embedding model, with other vectors."""
    kind = saved_kind(name, "sentence-transformers")
    if kind not in (None, "SentenceTransformer"):
        raise UserError(
            f"retriever {name} is a {kind}, which doesn't give one vector a text; name an "
            "embedding model"
        )
    if kind or own_file(name, "modules.json"):
        return
    config = own_file(name, "config.json")
    architectures = (read_json(config).get("architectures") if config else None) or [""]
    if str(architectures[0]).endswith("ForSequenceClassification"):
        raise UserError(
            f"retriever {name} is a reranker or classifier ({architectures[0]}), whose vectors "
            "were not made to be compared; name an embedding model"
        )


def saved_kind(name: str, organisation: str) -> str | None:
    """Return the class that sentence-transformers saved a model by; None: it doesn't say."""
    file = own_file(name, "config_sentence_transformers.json", organisation)
    return read_json(file).get("model_type", "SentenceTransformer") if file else None


def own_file(name: str, file: str, organisation: str = "sentence-transformers") -> Path | None:
    """Return a model's file, here or from the hub; a short name there is the organisation's."""
    if not Path(name).is_dir() and "/" not in name and name not in ORIGINAL_TRANSFORMER_MODELS:
        name = f"{organisation}/{name}"  # as sentence-transformers reads a short name
    found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def transformers_of(model: nn.Module) -> list[Transformer]:
    """Return the modules that hold a transformer: one, none, or one for each route."""
    return [module for module in model.modules() if isinstance(module, Transformer)]


def input_module(model: SentenceTransformer, kind: Kind) -> Any:
    """Return the module that tokenises one side's texts; a router has one for each side."""
    return _modules(model, kind)[0]


def _modules(model: SentenceTransformer, kind: Kind) -> list[Any]:
    """Return the modules that one side's texts pass."""
    first, *others = model
    if not isinstance(first, Router):
        return [first, *others]
    route: Any = first.sub_modules[str(first._resolve_route(TASKS[kind], "text"))]
    return [*route, *others]


def reads_plain_text(module: Any) -> bool:
    """Return whether a module's control tokens are those around a text.

    To static embeddings a control token is a word like others; a chat template has its own.
    """
    return not isinstance(module, StaticEmbedding) and "message" not in getattr(
        module, "modality_config", ()
    )


def tokenises_alone(module: Any) -> bool:
    """Return whether a module's tokens of a text are what its tokenizer gives, cut."""
    return (
        type(module) is Transformer
        and module.processor is module.tokenizer
        and reads_plain_text(module)
        and not module.processing_kwargs
        and module.query_expansion is None
        and library_tokenizer(module.tokenizer) is not None
    )


def pooling_of(model: SentenceTransformer, kind: Kind) -> str:
    """Name how one side's vectors come from tokens."""
    found = next((each for each in _modules(model, kind) if isinstance(each, Pooling)), None)
    if found is not None:
        modes = found.pooling_mode
        named = modes if isinstance(modes, str) else "+".join(modes)
        return {"cls": "CLS", "lasttoken": "last-token"}.get(named, named) + " pooling"
    own = input_module(model, kind)
    return "static embeddings" if isinstance(own, StaticEmbedding) else "pooling of its own"


def pools_side_by_side(model: SentenceTransformer, kind: Kind) -> bool:
    """Return whether one side's vectors are several pooled ones, one behind the other."""
    modules = _modules(model, kind)
    several = any(isinstance(each, Pooling) and "+" in pooling_of(model, kind) for each in modules)
    return several and not any(isinstance(each, Dense) for each in modules)


def vocabulary_size(module: Any) -> int | None:
    """Return the number of rows of a module's token embeddings; None: it doesn't say."""
    if isinstance(module, StaticEmbedding):
        return int(module.num_embeddings)
    try:
        table: Any = module.model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return getattr(table, "num_embeddings", None)


def _choose_pooling(model: SentenceTransformer, name: str, is_autoregressive: bool | None) -> None:
    pooling = next((module for module in model if isinstance(module, Pooling)), None)
    if pooling is None:
        return
    if own_file(name, "modules.json") is not None:
        if is_autoregressive not in (None, pooling.pooling_mode == "lasttoken"):
            raise UserError(
                f"retriever {name} brings its own pooling, {pooling.pooling_mode}; "
                "leave out --is-autoregressive"
            )
        return
    # A bare chat model is read as text, not as a conversation.
    for each in transformers_of(model):
        each.modality_config.pop("message", None)
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


def choose_padding(module: Transformer) -> None:
    """Let another token pad where there is no padding token, or none in the table: it is masked."""
    tokenizer, rows = module.tokenizer, vocabulary_size(module)

    def in_table(token: Any) -> bool:
        return token is not None and (rows is None or token < rows)

    if tokenizer is None or in_table(tokenizer.pad_token_id):
        return
    special = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.bos_token)
    usable = (t for t in special if t and in_table(tokenizer.convert_tokens_to_ids(t)))
    tokenizer.pad_token = next(usable, None) or tokenizer.convert_ids_to_tokens(0)


def save_embedding_model(model: SentenceTransformer, folder: Path, max_seq_length: int) -> None:
    """Save a model, or its adapter with the name of its base, in the layout that all servers read.

    Of three files the layout changed with sentence-transformers 6: those are written again, unless
    they hold settings that the old layout lacks.
    """
    for kind in TASKS:
        own = input_module(model, kind)
        if isinstance(own, StaticEmbedding):
            own.tokenizer.enable_truncation(max_seq_length)
        else:
            own.max_seq_length = max_seq_length
    model.save_pretrained(str(folder), create_model_card=False)
    loading.name_tokenizer_code(folder)
    modules = json.loads((folder / "modules.json").read_text())
    for saved, module in zip(modules, model, strict=True):
        kind_of = saved["type"].rsplit(".", 1)[-1]
        if not saved["type"].startswith("sentence_transformers."):
            # It is looked for beside modules.json, and saved in the module's own folder.
            for code in (folder / saved["path"]).glob("*.py"):
                if code.parent != folder:
                    shutil.copy(code, folder / code.name)
        elif kind_of in _OLD_MODULES:
            saved["type"] = f"sentence_transformers.models.{kind_of}"
        if kind_of == "Transformer" and _is_plain(module):
            file = folder / saved["path"] / "sentence_bert_config.json"
            lower = json.loads(file.read_text()).get("do_lower_case", False)
            write_json(file, {"max_seq_length": max_seq_length, "do_lower_case": lower})
        if kind_of == "Pooling":
            file = folder / saved["path"] / "config.json"
            write_json(file, _portable_pooling(json.loads(file.read_text())))
    write_json(folder / "modules.json", modules)


def _is_plain(module: Any) -> bool:
    """Return whether a module reads text alone, and gives the vectors of its tokens."""
    return (
        isinstance(module, Transformer)
        and list(module.modality_config) == ["text"]
        and module.modality_config["text"]["method"] == "forward"
        and module.module_output_name == "token_embeddings"
    )


def _portable_pooling(config: dict[str, Any]) -> dict[str, Any]:
    modes = config["pooling_mode"]
    active = {modes} if isinstance(modes, str) else set(modes)
    return {
        "word_embedding_dimension": config["embedding_dimension"],
        **{key: mode in active for mode, key in _POOLING_KEYS.items()},
        "include_prompt": config["include_prompt"],
    }
