"""Score passages for a question with a sentence-transformers cross-encoder: the reranker."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn

from dalm.errors import UserError
from dalm.file_reading import read_json
from dalm.models import adapter_base, loading, retriever_checks
from dalm.models.batching import by_equal_length, by_length, to_device
from dalm.models.control_tokens import TextTokenizer
from dalm.models.embedding_model import choose_padding, own_file, saved_kind, transformers_of
from dalm.models.position_limit import least, position_limit
from dalm.models.retriever_checks import SAME
from dalm.progress import track

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
"""A question, and the text of a passage."""
ORGANISATION = "cross-encoder"
"""Where sentence-transformers looks on the hub for a short name of a cross-encoder."""
MOST_TOKENS = 1024
"""Tokens of a question with its passage that are read at most, unless more are asked for."""
SCORED_TOKENS = 16_384
"""Tokens in a batch, padding included."""
CHUNK = 1024
"""Pairs that are tokenised at once."""
PROBES: tuple[Pair, ...] = (
    ("a b a b", "a b a b a b a b"),
    ("Where is the valve?", "It opens at nine bars, and closes at eight. It stands on the left."),
)
TRAIN = "train one: dalm train-reranker"


class Reranker:
    """Score how well a passage answers a question, reading both at once; higher is better.

    A score is the logit of the model's single output through the activation that it was saved with:
    the sigmoid for most, so that scores are within 0 and 1; order is the same with or without. It
    equals `CrossEncoder.predict`, whatever else is in the batch. Several threads may use it, one at
    a time. A question and a passage that are together longer than `max_length` are cut, the longer
    one first; the first cut is said. Control tokens that a text spells, such as `[SEP]`, are text.
    """

    def __init__(self, model: CrossEncoder, placement: loading.Placement, name: str) -> None:
        self.model, self.placement, self.name = model, placement, name
        self.longest: int | None = None
        """Tokens of a question with its passage that the model takes; None: there is no limit."""
        self.pads = True
        """Whether pairs of several lengths are scored in one batch, padded."""
        self.total = self.cut = 0
        """Pairs that were scored, and how many of them were cut."""
        self._control = TextTokenizer(model.tokenizer).spelled
        self._lock = Lock()

    @property
    def max_length(self) -> int:
        """Tokens of a question with its passage that are read, those between them included."""
        return int(self.model.max_seq_length or 0)

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the score of each text for a query."""
        return self.score_pairs([(query, text) for text in texts])

    def score_pairs(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the score of each query with its text; pairs of many queries share batches."""
        activation: Any = self.model.activation_fn
        # In fp64 a sigmoid near 1 still tells apart what fp32 rounds to 1.
        scores: list[float] = activation(self.logits(pairs).double()).tolist()
        return scores

    def logits(self, pairs: Sequence[Pair]) -> Float[Tensor, "pairs"]:
        """Return the output of the model for each pair before its activation, in fp32."""
        logits = torch.empty(len(pairs))
        with self._lock, loading.evaluating(self.model), torch.no_grad():
            batches = self._batches(pairs)
            for places, features in track(
                batches, len(pairs), "reranking", "passages", lambda batch: len(batch[0])
            ):
                with self.placement.autocast():
                    scores = self.model(to_device(features, self.model.device))["scores"]
                logits[torch.from_numpy(places)] = scores.float().reshape(-1).cpu()
        return logits

    def fingerprint(self) -> str:
        """Return a hash of what decides the scores: weights, length and activation."""
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(f"{self.max_length} {self.model.activation_fn} {self.model.prompts}".encode())
        loading.hash_weights(hashed, self.model.state_dict().items())
        return hashed.hexdigest()

    def _batches(self, pairs: Sequence[Pair]) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield the places of pairs of about the same length, and their features, longest first."""
        characters = np.array([len(query) + len(text) for query, text in pairs])
        order = np.argsort(-characters, kind="stable")
        grouped = by_length if self.pads else by_equal_length
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            chunk = [pairs[place] for place in places]
            features = self._tokenise(chunk)
            lengths = features["attention_mask"].sum(1).numpy()
            self._count_cut(chunk, lengths)
            for group in grouped(lengths, SCORED_TOKENS, most=256):
                yield places[group], _rows(features, group)

    def _tokenise(self, pairs: Sequence[Pair], **options: Any) -> dict[str, Any]:
        """Return what the model makes of pairs, padded to the longest of them."""
        prompt = self.model._resolve_prompt(None, None)
        plain = [(self._as_text(query), self._as_text(text)) for query, text in pairs]
        features = dict(self.model.preprocess(plain, prompt=prompt, **options))
        if "attention_mask" not in features:
            raise UserError(f"reranker {self.name} makes no tokens of texts; name another model")
        ids = features["input_ids"].numpy()
        retriever_checks.check_tokens(f"reranker {self.name}", self.model[0], [ids])
        return features

    def _as_text(self, text: str) -> str:
        """Return a text with a space after the first character of each control token it spells."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _count_cut(self, pairs: Sequence[Pair], lengths: np.ndarray) -> None:
        """Count the pairs that don't fit, and say it the first time."""
        cut = 0
        if full := [pairs[row] for row in np.flatnonzero(lengths >= self.max_length).tolist()]:
            whole = {"text": {"truncation": False, "verbose": False}}
            features = self._tokenise(full, processing_kwargs=whole)
            cut = int((features["attention_mask"].sum(1) > self.max_length).sum())
        if cut and not self.cut:
            logger.warning(
                "lengths    %s of %s passages are cut, with their question, at the %d tokens that "
                "the reranker reads; make shorter ones: dalm passages --max-tokens N",
                *(f"{cut:,}", f"{len(pairs):,}", self.max_length),
            )
        self.total, self.cut = self.total + len(pairs), self.cut + cut


def _rows(features: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Return the features of some rows, without the padding that none of them needs."""
    mask = features["attention_mask"]
    chosen = torch.from_numpy(rows)
    width = int(mask[chosen].sum(1).max())
    on_the_left = not bool(mask[:, 0].all())
    columns = slice(mask.shape[1] - width, None) if on_the_left else slice(width)
    found = dict(features)
    for name, value in features.items():
        if torch.is_tensor(value) and value.shape[:1] == mask.shape[:1]:
            has_columns = value.shape[1:2] == mask.shape[1:]
            found[name] = value[chosen][:, columns] if has_columns else value[chosen]
    return found


# Loading and checking


def load_reranker(
    name: str,
    placement: loading.Placement,
    *,
    max_length: int | None = None,
    to_train: bool = False,
) -> Reranker:
    """Load any reranker with one output: a cross-encoder, or a decoder that says yes or no.

    `max_length` is that of a question with its passage, in tokens; by default what the model takes,
    but not more than `MOST_TOKENS`. Only a model `to_train` may be an encoder without a head that
    scores: it gets a new one.

    Raises:
        UserError: no such model, another kind of model, or a length that the model can't take.
    """
    loading.check_model_name(name, "reranker")
    adapter_base.check_base(name, "reranker")
    placement = replace(placement, frozen=not to_train)

    def load() -> Reranker:
        _check_kind(name, to_train)
        model = CrossEncoder(
            name,
            device=str(placement.device),
            trust_remote_code=placement.trust_remote_code,
            model_kwargs=placement.weight_options(),
        )
        _check_modules(model, name, to_train)
        reranker = Reranker(model, placement, name)
        _choose_length(reranker, max_length)
        _check_batches(reranker)
        return reranker

    reranker = loading.loaded(load, name, "reranker")
    parts = [f"{reranker.max_length} tokens a question with its passage"]
    loading.tell("reranker", name, parts + _activation(reranker))
    return reranker


def _activation(reranker: Reranker) -> list[str]:
    function = reranker.model.activation_fn
    return ["scores from 0 to 1"] if isinstance(function, nn.Sigmoid) else []


def _check_kind(name: str, to_train: bool) -> None:
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


def _check_modules(model: CrossEncoder, name: str, to_train: bool) -> None:
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


def _choose_length(reranker: Reranker, wanted: int | None) -> None:
    """Find the length that the model takes, and set the one that is read."""
    model = reranker.model
    features = reranker._tokenise(PROBES[:1])
    tokens = int(features["attention_mask"].sum())
    limit = position_limit(lambda: _forward(reranker, features), tokens)
    reranker.longest = least(model.max_seq_length, limit)
    if wanted is not None and reranker.longest is not None and wanted > reranker.longest:
        raise UserError(
            f"--max-length {wanted}: reranker {reranker.name} takes at most {reranker.longest} "
            "tokens"
        )
    model.max_seq_length = wanted or min(MOST_TOKENS, reranker.longest or MOST_TOKENS)


def _forward(reranker: Reranker, features: Mapping[str, Any]) -> Tensor:
    with loading.evaluating(reranker.model), reranker.placement.autocast(), torch.no_grad():
        scores: Tensor = reranker.model(to_device(dict(features), reranker.model.device))["scores"]
    return scores.float().reshape(-1)


def _check_batches(reranker: Reranker) -> None:
    """Check that scores are finite, and note whether padding changes them."""
    batched = _forward(reranker, reranker._tokenise(PROBES))
    if not bool(batched.isfinite().all()):
        problem = loading.not_finite("scores", reranker.placement)
        raise UserError(f"reranker {reranker.name}: {problem}")
    single = torch.cat([_forward(reranker, reranker._tokenise([pair])) for pair in PROBES])
    difference = float((batched - single).abs().max())
    if difference > SAME[reranker.placement.dtype] * max(1.0, float(single.abs().max())):
        reranker.pads = False
        logger.warning(
            "reranker %s: padding changes its scores (by %.2g), so pairs are scored in batches of "
            "one length",
            *(reranker.name, difference),
        )
