"""Score answers with a generator, also of many candidate prompts at the memory of a few."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalm.models.batching import by_length, pad
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.prefix_tree import Tree, common, prefix_trees, tree_log_probs
from dalm.models.shared_start import log_probs_after, shares_starts
from dalm.prompts import Prompt
from dalm.training import gradient_cache
from dalm.training.data.batches import Pieces

SCORED_TOKENS, SCORED_PROMPTS = 8_192, 128
"""Tokens, padding included, and prompts of a batch that is scored without gradient."""
KEPT = 1
"""Micro-batches of candidates whose activations are kept from the first pass: one takes no more
memory than computing it again does."""


def candidate_prompts(
    generator: Generator, pieces: Pieces, passages: Sequence[Sequence[Sequence[int]]]
) -> list[Prompt]:
    """Return one prompt for each list of passages; every query has equally many lists."""
    frame, longest = generator.frame, generator.max_length
    each = len(passages) // len(pieces.queries)
    return [
        frame.join(some, pieces.queries[i // each], pieces.answers[i // each], longest)
        for i, some in enumerate(passages)
    ]


def score_answers(generator: Generator, prompts: Sequence[Prompt]) -> Float[Tensor, "rows T"]:
    """Return the log-probabilities of each prompt's answer tokens, 0 after an answer's end."""
    ids, mask = pad([prompt.tokens for prompt in prompts], generator.pad_token)
    starts = torch.tensor([prompt.answer_start for prompt in prompts])
    columns = torch.arange(ids.shape[1])
    scored = mask.bool() & (columns >= starts[:, None].clamp(min=1))
    device = generator.device
    flat = generator.token_log_probs(ids.to(device), mask.to(device), scored.to(device))
    return unflatten(flat, scored.sum(1))


def unflatten(flat: Float[Tensor, "n"], lengths: Tensor) -> Float[Tensor, "rows T"]:
    """Split values that follow each other row by row into rows, padded with 0 on the right."""
    table = flat.new_zeros(len(lengths), int(lengths.max()))
    return table.masked_scatter(answer_mask(lengths).to(flat.device), flat)


def answer_mask(lengths: Tensor) -> Bool[Tensor, "rows T"]:
    """Return where the answers' tokens are in rows padded on the right."""
    return torch.arange(int(lengths.max())) < lengths[:, None]


def score_candidates(
    generator: Generator,
    prompts: Sequence[Prompt],
    candidates: int,
    *,
    skip_below: float = 0.0,
    chunk: int | None = None,
) -> Float[Tensor, "B K T"]:
    """Return ℓ of B·K prompts, K for each query in turn, with gradient at the memory of B prompts.

    With `chunk`, at the memory of so many. −∂loss/∂ℓ_bkt of a marginal likelihood is r_bkt, the
    responsibility of passage k for token t, times the answer's weight; `skip_below` leaves out the
    prompts with the least of it (see `gradient_cache.Plan`). A frozen generator scores without
    dropout.
    """
    if not any(p.requires_grad for p in generator.parameters()):
        return score_no_grad(generator, prompts, candidates, chunk)
    if candidates == 1 and torch.is_grad_enabled() and (chunk or len(prompts)) >= len(prompts):
        return score_answers(generator, prompts)[:, None, :]
    plan = _plan(generator, prompts, candidates, chunk)._replace(skip_below=skip_below)
    table = gradient_cache.recomputed(plan, list(generator.parameters()))
    return table.view(-1, candidates, table.shape[1])


def score_no_grad(
    generator: Generator, prompts: Sequence[Prompt], candidates: int = 1, chunk: int | None = None
) -> Float[Tensor, "B K T"]:
    """Return ℓ of B·K prompts without gradient and without dropout."""
    with evaluating(generator):
        table = gradient_cache.without_gradient(_plan(generator, prompts, candidates, chunk))
    return table.view(-1, candidates, table.shape[1])


def mean_log_probs(
    generator: Generator, prompts: Sequence[Prompt]
) -> Iterator[tuple[Sequence[int], list[float]]]:
    """Yield batches of prompts: their places, and ℓ̄ = (1/T) Σ_t ℓ_t of each.

    In nats per token, over the answer's tokens and its EOS; without gradient and dropout. Tokens
    with which prompts begin alike are read once, if the model can go on from them.
    """
    left: Sequence[int] = range(len(prompts))
    if groups := _alike(prompts) if shares_starts(generator) else []:
        for rows, length in groups:
            yield rows, _mean_after_start(generator, [prompts[row] for row in rows], length)
        together = {row for rows, _ in groups for row in rows}
        left = [row for row in left if row not in together]
    lengths = np.array([prompts[row].length for row in left], np.int64)
    for places in by_length(lengths, SCORED_TOKENS, SCORED_PROMPTS):
        rows = [left[place] for place in places]
        some = [prompts[row] for row in rows]
        with generator.placement.autocast():
            totals = score_no_grad(generator, some)[:, 0].sum(1)
        yield rows, (totals.double() / torch.tensor(_answer_tokens(some))).tolist()


def _mean_after_start(generator: Generator, prompts: Sequence[Prompt], length: int) -> list[float]:
    """Return ℓ̄ of prompts whose first `length` tokens are the same."""
    ids, mask = pad([prompt.tokens[length:] for prompt in prompts], generator.pad_token)
    starts = torch.tensor([prompt.answer_start - length for prompt in prompts])
    scored = mask.bool() & (torch.arange(ids.shape[1]) >= starts[:, None])
    ids, mask, scored = (each.to(generator.device) for each in (ids, mask, scored))
    with evaluating(generator), generator.placement.autocast():
        flat = log_probs_after(generator, prompts[0].tokens[:length], ids, mask, scored)
    assert flat is not None, "shares_starts has tried it"
    return [float(each.double().mean()) for each in flat.cpu().split(_answer_tokens(prompts))]


def _answer_tokens(prompts: Sequence[Prompt]) -> list[int]:
    return [prompt.length - prompt.answer_start for prompt in prompts]


def _alike(prompts: Sequence[Prompt]) -> list[tuple[list[int], int]]:
    """Return groups of prompts, by place, of which half or more is the same; and that length.

    The token before an answer, from which its first one is predicted, is no part of it. Groups hold
    at most `SCORED_TOKENS`; those with most tokens come first, for out of memory shows at once.
    """
    order = sorted(range(len(prompts)), key=lambda row: prompts[row].tokens)
    groups: list[tuple[list[int], int]] = []
    for row in order:
        prompt = prompts[row]
        if groups:
            rows, length = groups[-1]
            start = prompts[rows[0]].tokens[:length]
            same = common(start, prompt.tokens[: prompt.answer_start - 1])
            longest = max(prompt.length, *(prompts[each].length for each in rows))
            if 2 * same >= longest and (len(rows) + 1) * longest <= SCORED_TOKENS:
                groups[-1] = [*rows, row], same
                continue
        groups.append(([row], prompt.answer_start - 1))
    several = [group for group in groups if len(group[0]) > 1]
    return sorted(several, key=lambda group: -sum(prompts[row].length for row in group[0]))


def _plan(
    generator: Generator, prompts: Sequence[Prompt], candidates: int, chunk: int | None = None
) -> gradient_cache.Plan:
    lengths = np.array([prompt.length for prompt in prompts])
    size = chunk or len(prompts) // candidates

    def score(rows: np.ndarray) -> Tensor:
        return _score_together(generator, [prompts[row] for row in rows], size)

    def grouping(rows: np.ndarray) -> list[np.ndarray]:
        trees = prefix_trees(generator, [prompts[row] for row in rows], size)
        return [
            rows[np.concatenate([trees[tree].places for tree in group])]
            for group in _by_tokens(trees, size * int(lengths[rows].max(initial=1)))
        ]

    def gradient_size(gradient: Tensor, log_probs: Tensor) -> Tensor:
        # At the logits a token's gradient is that of ℓ times 1 − p: an easy token has none.
        return (gradient.abs() * -torch.expm1(log_probs)).sum(1)

    return gradient_cache.Plan(
        score, lengths, size, gradient_size, grouping=grouping, kept=KEPT, model=generator
    )


def tokens_read(
    generator: Generator, prompts: Sequence[Prompt], candidates: int, chunk: int | None = None
) -> tuple[int, int]:
    """Return the tokens that are read to score B·K prompts once, and the same with padding."""
    size = chunk or len(prompts) // candidates
    if candidates == 1 and size >= len(prompts):  # none of them are shared
        longest = max(prompt.length for prompt in prompts)
        return sum(prompt.length for prompt in prompts), len(prompts) * longest
    trees = prefix_trees(generator, prompts, size)
    longest = max(prompt.length for prompt in prompts)
    padded = sum(
        len(group) * max(trees[tree].tokens for tree in group)
        for group in _by_tokens(trees, size * longest)
    )
    return sum(tree.tokens for tree in trees), padded


def _by_tokens(trees: Sequence[Tree], budget: int) -> Iterator[np.ndarray]:
    """Group rows of similar length into micro-batches of at most so many tokens."""
    return by_length(np.array([tree.tokens for tree in trees]), budget, len(trees))


def _score_together(generator: Generator, prompts: Sequence[Prompt], size: int) -> Tensor:
    trees = prefix_trees(generator, prompts, size)
    if len(trees) == len(prompts):
        return score_answers(generator, prompts)
    flat = tree_log_probs(generator, prompts, trees)
    return unflatten(flat, torch.tensor(_answer_tokens(prompts)))
