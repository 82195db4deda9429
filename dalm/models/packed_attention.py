"""Score packed documents without attention between them, in the way that the model supports.

Several documents share a row, and none may attend to another. In transformers 5.23 `position_ids`
that restart with each document isolate it, but only without an attention mask and without a cache,
and not in every architecture or kernel: elsewhere documents silently attend to each other.
`find_way` tests the model and uses only what isolates them.
"""

from contextlib import suppress
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.models import loading
from dalm.models.batching import by_length
from dalm.models.generator import Generator

Way = Literal["positions", "mask", "apart"]
"""positions: they restart with each document. mask: a block-diagonal attention mask, too. apart:
each document in a row of its own, correct for every architecture, at the cost of padding."""

ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Largest difference that counts as rounding, relative to the effect of attending to others."""
ROUNDING_IN_HALF = 0.05


def packed_log_probs(
    generator: Generator,
    tokens: Int[Tensor, "rows length"],
    positions: Int[Tensor, "rows length"],
    scored: Bool[Tensor, "rows length"],
    way: Way,
) -> Float[Tensor, "scored"]:
    """Return log p(token | tokens of its document before it), in the order of the rows.

    `positions` count from 0 in each document; padding is a document without a scored token.
    """
    if way == "apart":
        return _apart(generator, tokens, positions, scored)
    mask = None if way == "positions" else block_diagonal(generator, positions)
    return generator.token_log_probs(tokens, mask, scored, positions)


def block_diagonal(
    generator: Generator, positions: Int[Tensor, "rows length"]
) -> Tensor:  # (rows, 1, length, length)
    """Return the mask by which a token attends to its own document up to itself."""
    document = (positions == 0).cumsum(1)
    length = positions.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()
    return attention_mask(generator, (document[:, None, :] == document[:, :, None]) & causal)


def attention_mask(
    generator: Generator, attends: Bool[Tensor, "rows length length"]
) -> Tensor:  # (rows, 1, length, length)
    """Return the mask by which tokens (second axis) attend to some tokens (third axis) alone.

    Boolean, or for eager attention what is added to the scores.
    """
    if generator.model.config.get_text_config()._attn_implementation != "eager":
        return attends[:, None]
    dtype = generator.model.dtype
    added = torch.zeros_like(attends, dtype=dtype).masked_fill(~attends, torch.finfo(dtype).min)
    return added[:, None]


def _apart(generator: Generator, tokens: Tensor, positions: Tensor, scored: Tensor) -> Tensor:
    """Give each document a row of its own; batches hold documents of similar length."""
    flat, flat_scored = tokens.flatten(), scored.flatten()
    is_first = positions.flatten() == 0
    starts = is_first.nonzero().flatten()
    document = is_first.cumsum(0) - 1
    sizes = document.bincount()
    kept = document[flat_scored].bincount(minlength=len(sizes)) > 0
    starts, sizes = starts[kept], sizes[kept]
    places, values = [], []
    for group in by_length(sizes.cpu().numpy(), flat.numel(), len(sizes)):
        chosen = torch.from_numpy(group).to(starts.device)
        first, size = starts[chosen, None], sizes[chosen, None]
        column = torch.arange(int(size.max()), device=first.device)
        mask = column < size
        place = (first + column).clamp(max=flat.numel() - 1)
        own = flat_scored[place] & mask
        values.append(generator.token_log_probs(flat[place] * mask, mask.long(), own))
        places.append(place[own])
    log_probs = values[0].new_zeros(flat.numel())
    return log_probs.index_put((torch.cat(places),), torch.cat(values))[flat_scored]


@torch.no_grad()
def find_way(generator: Generator) -> Way:
    """Return the cheapest way that isolates packed documents in this model.

    The test has two rows of two documents each. The second one's log-probabilities have to be those
    of a row of its own; differences are relative to what attending to the first one changes.
    """
    tokens, positions, second = _probe(generator)
    with loading.evaluating(generator):
        alone = packed_log_probs(generator, tokens, positions, second, "apart")
        running = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        attending = generator.token_log_probs(tokens, torch.ones_like(tokens), second, running)
        rounding = ROUNDING.get(generator.model.dtype, ROUNDING_IN_HALF)
        tolerance = rounding * (attending - alone).abs().max()
        for way in _ways(generator):
            # A kernel without support for such a mask may raise anything.
            with suppress(Exception):
                packed = packed_log_probs(generator, tokens, positions, second, way)
                if (packed - alone).abs().max() < tolerance:
                    return way
    return "apart"


def _ways(generator: Generator) -> tuple[Way, ...]:
    text = generator.model.config.get_text_config()
    if not generator.takes_positions:
        return ()
    # Our mask would replace the model's in every layer, and with it a sliding window.
    windowed = getattr(text, "sliding_window", None) or getattr(text, "layer_types", None)
    return ("positions",) if windowed else ("positions", "mask")


def _probe(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return two rows of two documents each, and where the second ones' scored tokens are."""
    vocabulary = generator.model.get_input_embeddings().num_embeddings
    length = 24
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (2, length), generator=random)
    starts = torch.tensor([[14], [10]])
    column = torch.arange(length)
    positions = torch.where(column < starts, column, column - starts)
    second = column > starts
    return tuple(t.to(generator.device) for t in (tokens, positions, second))  # type: ignore[return-value]
