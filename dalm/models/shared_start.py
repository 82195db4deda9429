"""Score rows that begin with the same tokens, and read those tokens once.

The keys and values of a start are computed once and repeated for the rows that go on from it. For
ten questions on a passage of 250 tokens that takes a quarter of the time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from dalm.models import generator_checks, loading
from dalm.models.generator import Generator

PROBE = (24, (9, 7, 5))
"""Tokens of the start, and of the rows after it, by which a model is tried."""


@torch.no_grad()
def log_probs_after(
    generator: Generator,
    start: Sequence[int],
    ids: Int[Tensor, "rows length"],
    mask: Int[Tensor, "rows length"],
    scored: Bool[Tensor, "rows length"],
) -> Float[Tensor, "scored"] | None:
    """Return log p(token | start, tokens before it) of rows after a start, as `token_log_probs`.

    Rows are padded on the right; their first token can't be scored. None: the model keeps something
    else than the keys and values of all tokens.
    """
    backbone = generator_checks.backbone_of(generator.causal)
    first = torch.tensor([list(start)], device=generator.device)
    cache = _plain_cache(backbone(input_ids=first, use_cache=True))
    if cache is None:
        return None
    cache.batch_repeat_interleave(len(ids))
    before = mask.new_ones(len(ids), len(start))
    return log_probs_from(generator, cache, before, ids, mask, scored=scored)


@torch.no_grad()
def log_probs_from(
    generator: Generator,
    cache: DynamicCache,
    before: Int[Tensor, "rows start"],
    ids: Int[Tensor, "rows length"],
    mask: Int[Tensor, "rows length"],
    *,
    scored: Bool[Tensor, "rows length"],
) -> Float[Tensor, "scored"]:
    """Return log p(token | tokens before it) of rows that go on from cached keys and values.

    `before` is the mask of the cached tokens, which may be padded on the left. The cache grows by
    the rows' tokens.
    """
    whole = torch.cat([before, mask], dim=1)
    options = {}
    if generator.takes_positions:
        positions = (whole.cumsum(1) - 1).clamp(min=0)
        options = {"position_ids": positions[:, before.shape[1] :]}
    out = generator_checks.backbone_of(generator.causal)(
        input_ids=ids, attention_mask=whole, past_key_values=cache, use_cache=True, **options
    )
    preceding = scored[:, 1:]
    return generator.head_log_probs(out[0][:, :-1][preceding], ids[:, 1:][preceding])


def _plain_cache(out: Any) -> DynamicCache | None:
    """Return the cache of a forward pass if it holds all keys and values, and nothing else."""
    cache = getattr(out, "past_key_values", None)
    if isinstance(cache, DynamicCache) and all(type(each) is DynamicLayer for each in cache.layers):
        return cache
    return None


@torch.no_grad()
def shares_starts(generator: Generator) -> bool:
    """Return whether rows after a start score as whole rows do, by trying it.

    The difference is relative to what another start changes; of several rows the least counts,
    since rounding may send a token of one of them to another expert.
    """
    length, tails = PROBE
    longest = generator.longest
    if not generator.padding.when_scoring or (longest and longest < length + tails[0]):
        return False
    start, other, *rows = generator_checks.random_rows(generator, (length, length, *tails))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = (
        torch.arange(tails[0], device=ids.device) < torch.tensor(tails, device=ids.device)[:, None]
    )
    scored = mask.clone()
    scored[:, 0] = False
    with loading.evaluating(generator), generator.placement.autocast():
        try:
            once = log_probs_after(generator, start.tolist(), ids, mask.long(), scored)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
            return False
        if once is None:
            return False
        whole, changed = (
            _whole_rows(generator, each, ids, mask, scored) for each in (start, other)
        )
    sizes = [size - 1 for size in tails]
    parts = zip(once.split(sizes), whole.split(sizes), changed.split(sizes), strict=True)
    ratios = [generator_checks.ratio(a - b, float((c - b).abs().median())) for a, b, c in parts]
    rounding = generator_checks.ROUNDING.get(
        generator.placement.dtype, generator_checks.ROUNDING_IN_HALF
    )
    return min(ratios) < rounding


def _whole_rows(
    generator: Generator, start: Tensor, ids: Tensor, mask: Tensor, scored: Tensor
) -> Tensor:
    before = start.expand(len(ids), -1)
    return generator.token_log_probs(
        torch.cat([before, ids], 1),
        torch.cat([torch.ones_like(before), mask.long()], 1),
        torch.cat([torch.zeros_like(before, dtype=torch.bool), scored], 1),
    )
