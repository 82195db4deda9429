"""Choose how a bare encoder or decoder is pooled to one vector."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from dalm.errors import UserError


def choose_pooling(model: SentenceTransformer, name: str, is_autoregressive: bool | None) -> None:
    """Pool a bare decoder by its last token, which is EOS, and a bare encoder by the mean.

    A model that brings its own pooling (`modules.json`) keeps it. None: by the architecture.

    Raises:
        UserError: another pooling than the model's own, or an autoregressive model without EOS.
    """
    pooling = next((module for module in model if isinstance(module, Pooling)), None)
    if pooling is None:
        return
    if _has_own_modules(name):
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


def _has_own_modules(name: str) -> bool:
    """Return whether the model specifies its own pooling (`modules.json`)."""
    from transformers.utils import cached_file

    found = cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False)
    return found is not None


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


def freeze_poolers(model: SentenceTransformer) -> None:
    """Freeze BERT's pooler: no embedding uses it, and DDP would wait for its gradient."""
    for name, parameter in model.named_parameters():
        if "pooler" in name.split("."):
            parameter.requires_grad_(False)
