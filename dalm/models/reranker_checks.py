"""Check what a reranker is, takes and gives, by trying it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

from dalm.errors import UserError
from dalm.file_reading import read_json
from dalm.models import loading
from dalm.models.batching import to_device
from dalm.models.embedding_model import choose_padding, own_file, saved_kind, transformers_of
from dalm.models.position_limit import least, position_limit
from dalm.models.retriever_checks import SAME

if TYPE_CHECKING:
    from dalm.models.reranker import Reranker

logger = logging.getLogger(__name__)

ORGANISATION = "cross-encoder"
"""Where sentence-transformers looks on the hub for a short name of a cross-encoder."""
MOST_TOKENS = 1024
"""Tokens of a question with its passage that are read at most, unless more are asked for."""
SAVED = "dalm.json"
"""File of what an exported reranker was trained with."""
PROBES: tuple[tuple[str, str], ...] = (
    ("a b a b", "a b a b a b a b"),
    ("Where is the valve?", "It opens at nine bars, and closes at eight. It stands on the left."),
)
TRAIN = "train one: dalm train-reranker"


def check_is_there(name: str) -> None:
    """Refuse a reranker that isn't available, or is none, where hours may pass before it is loaded.

    Raises:
        UserError: names the model.
    """
    loading.check_model_is_there(name, "reranker")
    loading.loaded(lambda: check_kind(name, to_train=False), name, "reranker")


def check_kind(name: str, to_train: bool) -> None:
    """Refuse what sentence-transformers would turn into a cross-encoder that knows nothing."""
    modules = own_file(name, "modules.json", ORGANISATION)
    kind = saved_kind(name, ORGANISATION) or "SentenceTransformer"
    if modules is not None and kind != "CrossEncoder" and not to_train:
        raise UserError(
            f"reranker {name} is an embedding model ({kind}), which has no head that scores a "
            f"question with a passage; name a reranker, or {TRAIN} {name} ..."
        )
    config = own_file(name, "config.json", ORGANISATION)
    architectures = (read_json(config).get("architectures") if config else None) or [""]
    if modules is None and str(architectures[0]).endswith("ForCausalLM"):
        raise UserError(
            f"reranker {name} is a causal language model without a head that scores a question "
            "with a passage (modules.json with LogitScore, as sentence-transformers writes it); "
            "name a reranker"
        )


def check_modules(model: CrossEncoder, name: str, to_train: bool) -> None:
    """Refuse several outputs, random weights, and inputs other than text."""
    if model.num_labels != 1:
        raise UserError(
            f"reranker {name} is a classifier of {model.num_labels} labels; a reranker gives one "
            "score: name another model"
        )
    if not isinstance(model[0], Transformer) or not {"text", "message"} & {*model.modalities}:
        raise UserError(f"reranker {name} takes no texts; name another model")
    for each in transformers_of(model):
        loading.check_tokenizer(each.tokenizer, name, "reranker")
        backbone = f"{each.model.base_model_prefix}."
        new = loading.new_weights(each.model)
        head = [key for key in new if not key.startswith(backbone) or "pooler" in key.split(".")]
        if len(head) < len(new):
            loading.check_weights(each.model, name, "reranker")
        if head and not to_train:
            raise UserError(
                f"reranker {name} has no head that scores a question with a passage: its files "
                f"lack {', '.join(head)}; name a reranker, or {TRAIN} {name} ..."
            )
        if head:
            logger.info("head       new, with random weights: %s", ", ".join(head))
        choose_padding(each)
        config: Any = each.model.config
        if config.pad_token_id is None:  # decoders with a head look for the last token
            config.pad_token_id = getattr(each.tokenizer, "pad_token_id", None)
    if not to_train:
        _keep_head_in_fp32(model)


def _keep_head_in_fp32(model: CrossEncoder) -> None:
    """Let the last layer give fp32: the scores of good passages are equal in bf16."""
    named = [(key, m) for key, m in model.named_modules() if type(m) is nn.Linear]
    model.set_keep_in_fp32_modules([key for key, m in named if m.out_features == 1])


def choose_length(reranker: "Reranker", wanted: int | None) -> None:
    """Find the length that the model takes, and set the one that is read."""
    model = reranker.model
    features = reranker.tokenise(PROBES[:1])
    tokens = int(features["attention_mask"].sum())
    limit = position_limit(lambda: _forward(reranker, features), tokens)
    reranker.longest = least(model.max_seq_length, limit)
    if wanted is not None and reranker.longest is not None and wanted > reranker.longest:
        raise UserError(
            f"--max-length {wanted}: reranker {reranker.name} takes at most {reranker.longest} "
            "tokens"
        )
    saved = read_json(file).get("max_length") if (file := _saved(reranker.name)) else None
    longest = reranker.longest or MOST_TOKENS
    model.max_seq_length = wanted or min(saved or MOST_TOKENS, longest)


def _saved(name: str) -> Path | None:
    file = own_file(name, SAVED, ORGANISATION)
    return file if file is not None and file.is_file() else None


def _forward(reranker: "Reranker", features: Mapping[str, Any]) -> Tensor:
    with loading.evaluating(reranker.model), reranker.placement.autocast(), torch.no_grad():
        scores: Tensor = reranker.model(to_device(dict(features), reranker.model.device))["scores"]
    return scores.float().reshape(-1)


def check_batches(reranker: "Reranker") -> None:
    """Check that scores are finite, and note whether padding changes them."""
    batched = _forward(reranker, reranker.tokenise(PROBES))
    if not bool(batched.isfinite().all()):
        problem = loading.not_finite("scores", reranker.placement)
        raise UserError(f"reranker {reranker.name}: {problem}")
    single = torch.cat([_forward(reranker, reranker.tokenise([pair])) for pair in PROBES])
    difference = float((batched - single).abs().max())
    if difference > SAME[reranker.placement.dtype] * max(1.0, float(single.abs().max())):
        reranker.pads = False
        logger.warning(
            "reranker %s: padding changes its scores (by %.2g), so pairs are scored in batches of "
            "one length",
            *(reranker.name, difference),
        )
