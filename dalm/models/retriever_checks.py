"""Check what a retriever takes and gives, by trying it, and describe it in one line."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dalm.errors import UserError
from dalm.models import loading
from dalm.models.batching import to_device
from dalm.models.embedding_model import input_module, pooling_of, vocabulary_size
from dalm.models.position_limit import least, position_limit
from dalm.models.query_adapter import adapter_router
from dalm.models.retriever_sides import TASKS, Kind, Side

if TYPE_CHECKING:
    from dalm.models.retriever import Retriever

logger = logging.getLogger(__name__)

PROBE_SIDES: dict[Kind, Side] = {kind: Side("", 16) for kind in TASKS}
"""Lengths for the first forward pass, which every model takes."""
PROBES = ("a b a b a b a b", "Where is the valve that opens at nine bars, and who closes it?")
LITTLE_ROOM = 8
"""Tokens that a prompt should leave for the text."""
UNLIMITED = 10**6
SAME = {torch.float32: 1e-4, torch.float64: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of a batched vector from a single one that rounding explains, in units of
the vector's length."""


def check_tokens(model: str, module: Any, rows: Sequence[np.ndarray]) -> None:
    """Refuse tokens that the table of embeddings has no row for, before they are an IndexError.

    `model` is its role and its name.

    Raises:
        UserError: names the token, its id and the table's size.
    """
    count = vocabulary_size(module)
    highest = int(np.concatenate(rows).max(initial=-1)) if rows else -1
    if count is not None and highest >= count:
        tokenizer = module.tokenizer
        convert = getattr(tokenizer, "convert_ids_to_tokens", None) or tokenizer.id_to_token
        raise UserError(
            f"{model}: the tokenizer gives {convert(highest)!r} the id {highest}, but the "
            f"model has {count} embeddings; they don't belong together: take the tokenizer that "
            "the model was published with, or resize the embeddings"
        )


def longest(retriever: "Retriever") -> int | None:
    """Return how many tokens of a text the retriever takes; None: there is no limit.

    That is the least of what the tokenizer, the settings and the table of positions say.
    """
    limits: list[float | None] = []
    for kind in TASKS:
        module = input_module(retriever.model, kind)
        limits.append(getattr(module, "max_seq_length", None))
        tokens = retriever.tokenise(PROBES[:1], kind)
        run = _forward(retriever, tokens, kind)
        limits.append(position_limit(run, len(tokens[0])))
    return least(*limits)


def _forward(retriever: "Retriever", tokens: Sequence[np.ndarray], kind: Kind) -> Any:
    features = to_device(retriever.batch(tokens, kind), retriever.device)

    def run() -> Tensor:
        with loading.evaluating(retriever), retriever.placement.autocast(), torch.no_grad():
            return retriever.embed(features, kind)

    return run


def check(retriever: "Retriever") -> None:
    """Check tokens, prompts, numbers and padding; note what is found of vectors and padding.

    Raises:
        UserError: a prompt leaves no token for the text, or the vectors are not finite.
    """
    for kind in TASKS:
        _check_prompt(retriever, kind)
    retriever.tokenise(PROBES, "query")
    tokens = retriever.tokenise(PROBES, "passage")
    batched = _forward(retriever, tokens, "passage")()
    if not bool(batched.isfinite().all()):
        raise UserError(
            f"retriever {retriever.name}: {loading.not_finite('vectors', retriever.placement)}"
        )
    if batched.shape[1] != retriever.dim:
        raise UserError(
            f"retriever {retriever.name} gives vectors of {batched.shape[1]} dimensions, and its "
            f"files say {retriever.dim}; copy or export it again"
        )
    lengths = batched.norm(dim=1)
    retriever.gives_unit_vectors = bool((lengths - 1).abs().max() < 1e-3)
    single = torch.cat([_forward(retriever, [row], "passage")() for row in tokens])
    difference = ((batched - single).norm(dim=1) / single.norm(dim=1).clamp(min=1e-12)).max()
    if difference > SAME[retriever.placement.dtype]:
        retriever.pads = False
        logger.warning(
            "retriever %s: padding changes its vectors (by %.2g of their length), so texts are "
            "encoded in batches of one length; in training they are padded",
            *(retriever.name, float(difference)),
        )


def _check_prompt(retriever: "Retriever", kind: Kind) -> None:
    """Refuse a prompt that fills the whole length: all vectors would be equal."""
    side = retriever.sides[kind]
    if not side.prompt:
        return
    features = retriever.model.preprocess(
        [""], prompt=side.prompt, max_length=UNLIMITED, task=TASKS[kind]
    )
    room = side.max_len - features["input_ids"].numel()
    wanted = f"--{kind}-max-len {side.max_len - room + 32}, or a shorter --{kind}-prompt"
    if room <= 0:
        raise UserError(
            f"--{kind}-max-len {side.max_len}: the {kind} prompt alone has "
            f"{side.max_len - room} tokens, so nothing of a text is read; use {wanted}"
        )
    if room < LITTLE_ROOM:
        logger.warning(
            "the %s prompt leaves %d of %d tokens for the text; use %s",
            *(kind, room, side.max_len, wanted),
        )


def description(retriever: "Retriever") -> list[str]:
    """Return what a retriever is, in the words of its one line."""
    sides = retriever.sides
    poolings = dict.fromkeys(pooling_of(retriever.model, kind) for kind in TASKS)
    similarity = "dot product" if retriever.similarity == "dot" else "cosine"
    prompts = [f'{kind} prompt "{_short(s.prompt)}"' for kind, s in sides.items() if s.prompt]
    smaller = [str(dim) for dim in retriever.matryoshka_dims if dim < retriever.dim]
    lengths = f"{sides['query'].max_len} tokens a query and {sides['passage'].max_len} a passage"
    if retriever.longest is not None:
        lengths += f" of at most {retriever.longest}"
    adapted = adapter_router(retriever.model) is not None
    return [
        *poolings,
        *(["query adapter"] if adapted else []),
        similarity,
        f"{retriever.dim} dimensions",
        *([f"trained to be cut to {' or '.join(smaller)}"] if smaller else []),
        *(prompts or ["no prompts"]),
        lengths,
    ]


def _short(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
