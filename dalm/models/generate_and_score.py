"""Generate an answer to each prompt and score references after it, from one reading of the prompt.

The keys and values that generation computed for a prompt are kept for the references: they take a
pass over their own tokens only.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from dalm.models.batching import pad
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.shared_start import log_probs_from
from dalm.prompts import Prompt


class Generated(NamedTuple):
    """What a generator makes of a prompt."""

    answer: str
    log_probs: list[float]
    """ℓ̄ = (1/T) Σ_t log p(token t | prompt, tokens before it) of each reference, in nats."""


def generate_and_score(
    generator: Generator,
    prompts: Sequence[Prompt],
    references: Sequence[Sequence[Sequence[int]]],
    max_new_tokens: int,
) -> Iterator[dict[int, Generated]]:
    """Yield each prompt's greedy answer and the mean log-probability of each of its references.

    One batch after the other, by the prompts' places. A reference is what follows the prompt in
    tokens, with the end token. The generator has to go on from keys and values as it reads whole
    rows (see `shared_start.shares_starts`).
    """
    for batch in generator.generate_batches(prompts, max_new_tokens, keep_states=True):
        assert batch.states is not None
        tokens = [prompts[row].tokens for row in batch.rows]
        own = [references[row] for row in batch.rows]
        scores = _score(generator, batch.states, tokens, own)
        generated = map(Generated, batch.answers, scores)
        yield dict(zip(batch.rows, generated, strict=True))


def _score(
    generator: Generator,
    cache: DynamicCache,
    prompts: Sequence[Sequence[int]],
    references: Sequence[Sequence[Sequence[int]]],
) -> list[list[float]]:
    """Score the references of a batch: the first one of every prompt, then the second …

    The last token of a prompt is read again: the first one of a reference is predicted from it.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    width = int(lengths.max()) - 1  # without the last tokens; padded on the left
    before = torch.arange(width) >= width + 1 - torch.from_numpy(lengths)[:, None]
    scores: list[list[float]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    for turn in range(max(map(len, references))):
        cache.crop(width - cache.get_seq_length())
        left = [place for place, row in enumerate(rows) if len(references[row]) > turn]
        if len(left) < len(rows):
            cache.batch_select_indices(torch.tensor(left, device=generator.device))
            rows = [rows[place] for place in left]
        tokens = [[prompts[row][-1], *references[row][turn]] for row in rows]
        ids, mask = pad(tokens, generator.pad_token)
        scored = mask.bool()
        scored[:, 0] = False
        given = (each.to(generator.device) for each in (before[rows].long(), ids, mask))
        with evaluating(generator), generator.placement.autocast():
            flat = log_probs_from(generator, cache, *given, scored=scored.to(generator.device))
        parts = flat.cpu().split([len(each) - 1 for each in tokens])
        for row, part in zip(rows, parts, strict=True):
            scores[row].append(float(part.double().mean()))
    return scores
