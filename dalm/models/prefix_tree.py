"""Score prompts that begin alike in rows in which what they share stands once.

A row holds a tree of prompts: what several begin with, then what each goes on with. A token has the
position that it has in its own prompt, and attends to the tokens before it there, by a mask. So a
passage that four questions are asked about is read once instead of four times, without a cache of
keys and values, and the gradient is that of autograd. Whether a model keeps to such a mask is found
by trying it (`shares_prefixes`); a recurrent one doesn't.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalm.models import generator_checks, loading
from dalm.models.batching import pad
from dalm.models.generator import Generator
from dalm.models.packed_attention import ROUNDING, ROUNDING_IN_HALF, attention_mask
from dalm.prompts import Prompt

PRODUCTS = 6
"""A token's products with the weights take as much arithmetic as attending to so many times the
model's width of tokens: 12 width² weights a layer against 2 width for each token attended to."""
PROBE = (24, (300, 9, 7))
"""Tokens of what the prompts of a trial share, and of what each goes on with. The first is longer
than windows that a config doesn't name (GPT-Neo's 256)."""


class Tree(NamedTuple):
    """Prompts that stand in one row."""

    places: list[int]
    """Their places among all prompts; each begins as the one before it does, for longest."""
    tokens: int
    """Of the row."""


def prefix_trees(generator: Generator, prompts: Sequence[Prompt], size: int) -> list[Tree]:
    """Return the rows of prompts: they stand together where that takes less arithmetic.

    It saves the shared tokens' products, and costs attention to the tokens of other prompts, which
    the mask hides but which is computed. A row has at most the tokens of `size` longest prompts,
    and those that the model takes.
    """
    if size < 2 or not shares_prefixes(generator):
        return [Tree([place], prompt.length) for place, prompt in enumerate(prompts)]
    most = min(size * max(p.length for p in prompts), generator.longest or 2**31)
    per_token = PRODUCTS * generator.model.get_input_embeddings().weight.shape[1]
    trees: list[Tree] = []
    for place in sorted(range(len(prompts)), key=lambda place: prompts[place].tokens):
        prompt = prompts[place]
        if trees:
            places, before = trees[-1]
            same = common(prompts[places[-1]].tokens, prompt.tokens)
            tokens = before + prompt.length - same
            attention = tokens**2 - before**2 - prompt.length**2
            if tokens <= most and attention < same * per_token:
                trees[-1] = Tree([*places, place], tokens)
                continue
        trees.append(Tree([place], prompt.length))
    return trees


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


class _Row:
    """The tokens of a tree, and the columns of each prompt's tokens."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.paths: list[np.ndarray] = []
        before: list[int] = []
        for prompt in prompts:
            same, start = common(before, prompt.tokens), len(self.tokens)
            self.tokens += prompt.tokens[same:]
            self.positions += range(same, prompt.length)
            new = np.arange(start, len(self.tokens))
            shared = self.paths[-1][:same] if self.paths else new[:0]
            self.paths.append(np.concatenate([shared, new]))
            before = prompt.tokens

    def attends(self, width: int) -> Bool[np.ndarray, "width width"]:
        """Return which tokens (second axis) each token attends to; padding to itself."""
        found = np.eye(width, dtype=bool)
        for path in self.paths:
            found[np.ix_(path, path)] |= np.tri(len(path), dtype=bool)
        return found


def tree_log_probs(
    generator: Generator, prompts: Sequence[Prompt], trees: Sequence[Tree]
) -> Float[Tensor, "scored"]:
    """Return log p(token | tokens before it) in fp32 of the answers' tokens, prompt by prompt."""
    rows = [_Row([prompts[place] for place in tree.places]) for tree in trees]
    ids, _ = pad([row.tokens for row in rows], generator.pad_token)
    positions, _ = pad([row.positions for row in rows], 0)
    width, device = ids.shape[1], generator.device
    attends = torch.from_numpy(np.stack([row.attends(width) for row in rows])).to(device)
    hidden = generator.hidden_states(
        ids.to(device), attention_mask(generator, attends), positions.to(device)
    )
    paths = {
        place: number * width + path
        for number, (tree, row) in enumerate(zip(trees, rows, strict=True))
        for place, path in zip(tree.places, row.paths, strict=True)
    }
    starts = [prompt.answer_start for prompt in prompts]
    before = [paths[place][start - 1 : -1] for place, start in enumerate(starts)]
    targets = [prompt.tokens[start:] for prompt, start in zip(prompts, starts, strict=True)]
    chosen = torch.from_numpy(np.concatenate(before)).to(device)
    expected = torch.from_numpy(np.concatenate(targets)).to(device)
    return generator.head_log_probs(hidden.flatten(0, 1)[chosen], expected)


def shares_prefixes(generator: Generator) -> bool:
    """Return whether prompts in a tree score as they do alone; it is tried once a generator."""
    if generator.shares_prefixes is None:
        generator.shares_prefixes = _tries_to_share(generator)
    return generator.shares_prefixes


@torch.no_grad()
def _tries_to_share(generator: Generator) -> bool:
    if not generator.takes_positions or not generator.padding.when_scoring:
        return False
    start, (long, *short) = PROBE
    long = min(long, (generator.longest or 2**31) - start - sum(short))
    text = generator.model.config.get_text_config()
    for name in ("sliding_window", "attention_chunk_size"):
        window = getattr(text, name, None)
        if window and window < max(generator.max_length, start + long):
            return False  # our mask would take its place
    if long < short[0]:
        return False
    prefix, *tails = generator_checks.random_rows(generator, (start, long, *short))
    prompts = [Prompt([*prefix.tolist(), *tail.tolist()], start + 1) for tail in tails]
    whole = [*prefix.tolist(), *(token for tail in tails for token in tail.tolist())]
    with loading.evaluating(generator), generator.placement.autocast():
        alone = torch.cat([_alone(generator, prompt) for prompt in prompts])
        # What the second and the third prompt would read if they saw the ones before them.
        seen = _alone(generator, Prompt(whole, start + long + 1))
        with suppress(Exception):  # a kernel without support for such a mask may raise anything
            tree = Tree([0, 1, 2], len(whole))
            difference = (tree_log_probs(generator, prompts, [tree]) - alone).abs().max()
            effect = (seen[: short[0] - 1] - alone[long - 1 :][: short[0] - 1]).abs().max()
            rounding = ROUNDING.get(generator.model.dtype, ROUNDING_IN_HALF)
            return bool(difference < rounding * effect)
    return False


def _alone(generator: Generator, prompt: Prompt) -> Float[Tensor, "scored"]:
    """Return the log-probabilities of one prompt's answer, by the model's own attention."""
    ids = torch.tensor([prompt.tokens], device=generator.device)
    scored = torch.arange(ids.shape[1], device=ids.device)[None] >= prompt.answer_start
    return generator.token_log_probs(ids, torch.ones_like(ids), scored)
