"""Packed documents in, log-probabilities as if each stood alone, out: by what the model can do.

Several documents stand in one row, and none may see another. In transformers 5.23 positions that
start again with each document hide it from the ones before, but only without an attention mask and
without a cache, and not in every architecture or kernel: elsewhere they see each other without a
word. So it is tried out on the model at hand, and what doesn't hold isn't used.
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
"""positions: they start again with each document. mask: a block-diagonal one besides. apart: each
document in a row of its own, right for every architecture, at the price of padding."""

SAME = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Share of the change that a seen neighbour makes, up to which a difference is rounding."""
SAME_IN_HALF = 0.05


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
    """Return the mask by which a token sees its own document up to itself."""
    document = (positions == 0).cumsum(1)
    length = positions.shape[1]
    seen = (document[:, None, :] == document[:, :, None]) & torch.ones(
        length, length, dtype=torch.bool, device=positions.device
    ).tril()
    if generator.model.config.get_text_config()._attn_implementation != "eager":
        return seen[:, None]
    dtype = generator.model.dtype
    hidden = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return hidden[:, None]


def _apart(generator: Generator, tokens: Tensor, positions: Tensor, scored: Tensor) -> Tensor:
    """Give each document a row of its own; documents of like length go together."""
    flat, marked = tokens.flatten(), scored.flatten()
    begins = positions.flatten() == 0
    starts = begins.nonzero().flatten()
    document = begins.cumsum(0) - 1
    sizes = document.bincount()
    kept = document[marked].bincount(minlength=len(sizes)) > 0
    starts, sizes = starts[kept], sizes[kept]
    places, values = [], []
    for group in by_length(sizes.cpu().numpy(), flat.numel(), len(sizes)):
        chosen = torch.from_numpy(group).to(starts.device)
        first, size = starts[chosen, None], sizes[chosen, None]
        column = torch.arange(int(size.max()), device=first.device)
        mask = column < size
        place = (first + column).clamp(max=flat.numel() - 1)
        own = marked[place] & mask
        values.append(generator.token_log_probs(flat[place] * mask, mask.long(), own))
        places.append(place[own])
    found = values[0].new_zeros(flat.numel())
    return found.index_put((torch.cat(places),), torch.cat(values))[marked]


@torch.no_grad()
def find_way(generator: Generator) -> Way:
    """Return the cheapest way in which this model keeps packed documents apart.

    Two rows of two documents: the second one has to score as it does alone, measured by how much
    it changes where the first one is seen.
    """
    tokens, positions, second = _probe(generator)
    with loading.evaluating(generator):
        alone = packed_log_probs(generator, tokens, positions, second, "apart")
        going_on = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        seen = generator.token_log_probs(tokens, torch.ones_like(tokens), second, going_on)
        rounding = SAME.get(generator.model.dtype, SAME_IN_HALF)
        most = rounding * (seen - alone).abs().max()
        for way in _ways(generator):
            # A kernel that takes no such mask raises whatever it likes.
            with suppress(Exception):
                packed = packed_log_probs(generator, tokens, positions, second, way)
                if (packed - alone).abs().max() < most:
                    return way
    return "apart"


def _ways(generator: Generator) -> tuple[Way, ...]:
    text = generator.model.config.get_text_config()
    if not generator.takes_positions:
        return ()
    # A mask of one's own replaces that of every layer: a sliding window would be lost.
    windowed = getattr(text, "sliding_window", None) or getattr(text, "layer_types", None)
    return ("positions",) if windowed else ("positions", "mask")


def _probe(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return two rows of two documents of unlike lengths, and where the second ones' tokens are."""
    vocabulary = generator.model.get_input_embeddings().num_embeddings
    length = 24
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary, (2, length), generator=random)
    starts = torch.tensor([[14], [10]])
    column = torch.arange(length)
    positions = torch.where(column < starts, column, column - starts)
    second = column > starts
    return tuple(t.to(generator.device) for t in (tokens, positions, second))  # type: ignore[return-value]
