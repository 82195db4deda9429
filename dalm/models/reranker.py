"""Score passages for a question with a sentence-transformers cross-encoder: the reranker."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Module
from torch import Tensor, nn

from dalm import artifacts
from dalm.errors import UserError
from dalm.models import adapter_base, loading, reranker_checks, retriever_checks
from dalm.models.batching import by_equal_length, by_length, to_device
from dalm.models.control_tokens import TextTokenizer
from dalm.models.embedding_model import transformers_of
from dalm.models.fingerprint import hash_of, plain_config, tokenizer_configuration
from dalm.progress import track

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
"""A question, and the text of a passage."""
SCORED_TOKENS = 16_384
"""Tokens in a batch, padding included."""
SCORED_ON_CPU = 4096
"""The same on a CPU, where batches of 16,384 tokens took twice the time."""
CHUNK = 1024
"""Pairs that are tokenised at once."""


class Reranker(nn.Module):
    """Score how well a passage answers a question, reading both at once; higher is better.

    A score is the logit of the model's single output through the activation that it was saved with:
    the sigmoid for most, so that scores are within 0 and 1; order is the same with or without. It
    equals `CrossEncoder.predict`, whatever else is in the batch. Several threads may use it, one at
    a time. A question and a passage that are together longer than `max_length` are cut, the longer
    one first; the first cut is said. Control tokens that a text spells, such as `[SEP]`, are text.
    """

    def __init__(self, model: CrossEncoder, placement: loading.Placement, name: str) -> None:
        super().__init__()
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
        """Return the output of the model for each pair before its activation, in fp32.

        Raises:
            UserError: one is infinite or not a number.
        """
        logits = torch.empty(len(pairs))
        with self._lock, loading.evaluating(self.model), torch.no_grad():
            batches = self._batches(pairs)
            for places, features in track(
                batches, len(pairs), "reranking", "passages", lambda batch: len(batch[0])
            ):
                with self.placement.autocast():
                    scores = self.model(to_device(features, self.model.device))["scores"]
                logits[torch.from_numpy(places)] = scores.float().reshape(-1).cpu()
        if not bool(logits.isfinite().all()):
            problem = loading.not_finite("scores", self.placement)
            raise UserError(f"reranker {self.name}: {problem}")
        return logits

    def checkpoint_activations(self) -> None:
        """Recompute the layers' activations in the backward pass instead of keeping them."""
        for each in transformers_of(self.model):
            loading.checkpoint_activations(each.model)

    def export(self, folder: Path) -> None:
        """Write the model so that sentence-transformers gives the same scores without DALM."""
        self.model.save_pretrained(str(folder), create_model_card=False)
        loading.name_tokenizer_code(folder)
        artifacts.write_json(folder / reranker_checks.SAVED, {"max_length": self.max_length})

    def fingerprint(self) -> str:
        """Return a hash of what decides the scores: weights, architecture, tokenizer and length."""
        modules = [module for module in self.model.modules() if isinstance(module, Module)]
        parts = [
            *(self.max_length, str(self.model.activation_fn), self.model.prompts),
            [[type(module).__name__, module.get_config_dict()] for module in modules],
            [plain_config(each.model.config) for each in transformers_of(self.model)],
            tokenizer_configuration(self.model.tokenizer),
            getattr(self.model.tokenizer, "chat_template", None),
        ]
        return hash_of(parts, self.model.state_dict().items())

    def _batches(self, pairs: Sequence[Pair]) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield the places of pairs of about the same length, and their features, longest first."""
        characters = np.array([len(query) + len(text) for query, text in pairs])
        order = np.argsort(-characters, kind="stable")
        grouped = by_length if self.pads else by_equal_length
        budget = SCORED_ON_CPU if self.placement.device.type == "cpu" else SCORED_TOKENS
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            chunk = [pairs[place] for place in places]
            features = self.tokenise(chunk)
            lengths = features["attention_mask"].sum(1).numpy()
            self._count_cut(chunk, lengths)
            for group in grouped(lengths, budget, most=256):
                yield places[group], _rows(features, group)

    def tokenise(self, pairs: Sequence[Pair], **options: Any) -> dict[str, Any]:
        """Return what the model makes of pairs, padded to the longest of them."""
        prompt = self.model._resolve_prompt(None, None)
        plain = [(self.as_text(query), self.as_text(text)) for query, text in pairs]
        features = dict(self.model.preprocess(plain, prompt=prompt, **options))
        if "attention_mask" not in features:
            raise UserError(f"reranker {self.name} makes no tokens of texts; name another model")
        ids = features["input_ids"].numpy()
        retriever_checks.check_tokens(f"reranker {self.name}", self.model[0], [ids])
        return features

    def as_text(self, text: str) -> str:
        """Return a text with a space after the first character of each control token it spells."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _count_cut(self, pairs: Sequence[Pair], lengths: np.ndarray) -> None:
        """Count the pairs that don't fit, and say it the first time."""
        cut = 0
        if full := [pairs[row] for row in np.flatnonzero(lengths >= self.max_length).tolist()]:
            whole = {"text": {"truncation": False, "verbose": False}}
            features = self.tokenise(full, processing_kwargs=whole)
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
    """Load a reranker with `open_reranker`, and say what it is in one line."""
    reranker = open_reranker(name, placement, max_length=max_length, to_train=to_train)
    tell_reranker(reranker)
    return reranker


def open_reranker(
    name: str,
    placement: loading.Placement,
    *,
    max_length: int | None = None,
    to_train: bool = False,
) -> Reranker:
    """Load any reranker with one output: a cross-encoder, or a decoder that says yes or no.

    `max_length` is that of a question with its passage, in tokens; by default that of its training
    here, else what the model takes, but not more than `MOST_TOKENS`. Only a model `to_train` may be
    an encoder without a head that scores: it gets a new one.

    Raises:
        UserError: no such model, another kind of model, or a length that the model can't take.
    """
    loading.check_model_name(name, "reranker")
    adapter_base.check_base(name, "reranker")
    placement = replace(placement, frozen=not to_train)

    def load() -> Reranker:
        reranker_checks.check_kind(name, to_train)
        with _without_load_report():  # what a new head is made of is said by `check_modules`
            model = CrossEncoder(
                name,
                device=str(placement.device),
                trust_remote_code=placement.trust_remote_code,
                model_kwargs=placement.weight_options(),
            )
        reranker_checks.check_modules(model, name, to_train)
        reranker = Reranker(model, placement, name)
        reranker_checks.choose_length(reranker, max_length)
        reranker_checks.check_batches(reranker)
        return reranker

    return loading.loaded(load, name, "reranker")


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Leave out transformers' table of the weights that a model's files lack."""
    reports = logging.getLogger("transformers.modeling_utils")

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    reports.addFilter(is_other)
    try:
        yield
    finally:
        reports.removeFilter(is_other)


def tell_reranker(reranker: Reranker) -> None:
    """Log a reranker in one line."""
    parts = [f"{reranker.max_length} tokens a question with its passage"]
    if isinstance(reranker.model.activation_fn, nn.Sigmoid):
        parts.append("scores from 0 to 1")
    loading.tell("reranker", reranker.name, parts)
