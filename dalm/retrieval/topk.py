"""Find the k largest inner products of each query, exactly and block by block.

On a CPU a first pass in bfloat16 finds the scores of a block that may be above the k-th best so
far. bfloat16 products are several times as fast as fp32 where the processor has them in hardware.
Their error is bounded, so every score that could be above the bound is found, and the few that are
found are computed again in fp32: the result is exact.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalm.models.loading import has_bf16
from dalm.progress import track

# On a CPU a block's scores stay in the cache; a GPU wants more work per launch.
BLOCK_PASSAGES = {"cpu": 8_192, "cuda": 262_144}
BLOCK_BYTES = {"cpu": 16 << 20, "cuda": 1 << 30}
PREFILTERED_QUERIES = 64  # from this many on a first pass in low precision pays on a CPU
SEGMENT = 64  # neighbouring scores that share their maximum: one comparison instead of 64
CROWDED = 0.5  # fraction of segments to look into above which a full pass costs less
RESCORED = 4_096  # pairs of vectors multiplied at once: 12 MB at 384 dimensions
ROUNDING = {torch.bfloat16: 2.0**-9, torch.float32: 2.0**-24}

Best = tuple[Tensor, Tensor]
"""Scores and rows, (B, K) each, best first."""


class Found(NamedTuple):
    """Entries above the bound, line by line and in a line by column, with their fp32 scores."""

    lines: Int[Tensor, "found"]
    columns: Int[Tensor, "found"]
    scores: Float[Tensor, "found"]


class PrefilterVectors(NamedTuple):
    """Vectors in fp32, in the precision of the first pass, and their norms."""

    vectors: Float[Tensor, "n dim"]
    low: Float[Tensor, "n dim"]
    norms: Float[Tensor, "n"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "n dim"]) -> "PrefilterVectors":
        """Prepare fp32 vectors once for all comparisons."""
        low = vectors.bfloat16() if has_bf16(vectors.device) else vectors
        return cls(vectors, low, vectors.norm(dim=1))


@torch.no_grad()
def top_k(
    queries: Float[Tensor, "B dim"],
    passages: Float[Tensor, "N dim"],
    k: int,
    block: tuple[int, int] | None = None,
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """Return the K = min(k, N) largest inner products of each query, fp32, and their rows.

    Largest first; equal scores are in the order of their rows, across blocks too. Beyond the
    result it needs one block of scores and one of fp32 passages, whatever B and N. `block` is the
    number of queries and of passages in one product; by default it follows the device.

    The same arguments give the same result. Two equal vectors may still score differently in the
    last bit, as in any fp32 product: a matrix product rounds by a column's position in it.
    """
    rows_per_block, columns = block or _block(queries, len(passages))
    parts = torch.split(queries.float(), rows_per_block)
    scores = queries.new_empty(rows_per_block * columns, dtype=torch.float32)
    prefilters = queries.device.type == "cpu" and len(queries) >= PREFILTERED_QUERIES
    low_parts = [PrefilterVectors.of(part) for part in parts] if prefilters else []
    buffer = torch.empty(0)
    if prefilters:
        buffer = torch.empty(rows_per_block * (columns + 64), dtype=low_parts[0].low.dtype)
    best = [_empty(part) for part in parts]
    starts = range(0, len(passages), columns)
    for start in track(starts, len(passages), "searching", "passages", lambda _: columns):
        # Passages outermost: a half-precision block is widened once, not once for every query.
        candidates = passages[start : start + columns].float()
        low = PrefilterVectors.of(candidates) if prefilters and start >= k else None
        for i, part in enumerate(parts):
            found = low and above(low_parts[i], low, best[i][0][:, -1], buffer)
            if found is not None:
                best[i] = _insert(best[i], found, start, k)
                continue
            shape = len(part), len(candidates)
            product = scores[: shape[0] * shape[1]].view(shape)
            torch.mm(part, candidates.T, out=product)
            best[i] = _merge(best[i], _largest(product, k), start, k)
    return torch.cat([s for s, _ in best]), torch.cat([r for _, r in best])


def _block(queries: Tensor, count: int) -> tuple[int, int]:
    """Choose the shape of a block of scores that stays within the device's budget."""
    device = queries.device.type if queries.device.type in BLOCK_BYTES else "cpu"
    columns = max(1, min(count, BLOCK_PASSAGES[device]))
    return max(1, min(len(queries), BLOCK_BYTES[device] // (4 * columns))), columns


def _empty(queries: Tensor) -> Best:
    return queries.new_empty(len(queries), 0), queries.new_empty(len(queries), 0, dtype=torch.long)


def _largest(scores: Float[Tensor, "B C"], k: int) -> Best:
    """Return the k largest of each line and their columns, columns ascending.

    `torch.topk` doesn't specify which of several equal scores it takes, so k + 1 are requested: if
    the last two are equal, a tie crosses the boundary and the line is resolved by `_first_of_ties`.
    """
    count = scores.shape[1]
    if k >= count:
        return scores.clone(), torch.arange(count, device=scores.device).expand_as(scores)
    values, columns = scores.topk(k + 1)
    tied = (values[:, k - 1] == values[:, k]).nonzero().squeeze(1)
    columns = columns[:, :k]
    for lines in torch.split(tied, 64):  # otherwise the cumsum takes the memory of a whole block
        columns[lines] = _first_of_ties(scores[lines], values[lines, k - 1 : k], k)
    columns = columns.sort().values
    return scores.gather(1, columns), columns


def _first_of_ties(
    scores: Float[Tensor, "B C"], boundary: Float[Tensor, "B 1"], k: int
) -> Int[Tensor, "B k"]:
    """Return the columns above the boundary and, up to k, the first of those that equal it."""
    equal = scores == boundary
    larger = ~(scores <= boundary)  # not `>`: NaN counts as the largest, as it does for topk
    wanted = k - larger.sum(1, keepdim=True)
    taken = larger | (equal & (equal.cumsum(1, dtype=torch.int32) <= wanted))
    return taken.nonzero()[:, 1].view(len(scores), k)


def _merge(best: Best, found: Best, start: int, k: int) -> Best:
    """Join the best so far with a later block's, whose columns begin at row `start`."""
    scores = torch.cat([best[0], found[0]], dim=1)
    rows = torch.cat([best[1], found[1] + start], dim=1)
    # Stable: among equal scores the lower rows are first already.
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores[:, :k], rows.gather(1, order[:, :k])


def _insert(best: Best, found: Found, start: int, k: int) -> Best:
    """Join the best so far with the entries that the prefilter found in a later block.

    Only lines with entries are touched; their entries are padded with −∞ to one length.
    """
    if not len(found.lines):
        return best
    lines, counts = torch.unique_consecutive(found.lines, return_counts=True)
    owners = torch.arange(len(lines)).repeat_interleave(counts)
    within = torch.arange(len(found.lines)) - (counts.cumsum(0) - counts)[owners]
    scores = best[0].new_full((len(lines), int(counts.max())), -torch.inf)
    columns = torch.zeros(scores.shape, dtype=torch.long)
    scores[owners, within] = found.scores
    columns[owners, within] = found.columns
    joined = _merge((best[0][lines], best[1][lines]), (scores, columns), start, k)
    for whole, part in zip(best, joined, strict=True):
        whole[lines] = part
    return best


# A first pass in low precision


def above(
    queries: PrefilterVectors, passages: PrefilterVectors, bound: Float[Tensor, "B"], buffer: Tensor
) -> Found | None:
    """Return every entry of queries · passagesᵀ that is above its line's `bound`, or is NaN.

    With unit roundoff u, rounding both vectors and the product moves a score by at most
    (3u + u²) ‖q‖ ‖p‖ (Cauchy–Schwarz on Σ|q_i||p_i|), and adding up `dim` products in fp32 by
    dim · 2⁻²⁴ ‖q‖ ‖p‖; four times as much is allowed for the latter. `buffer` takes the scores of
    the first pass. None if so many are near the bound that a full pass costs less.
    """
    u = ROUNDING[queries.low.dtype]
    slack = 3 * u + u * u + queries.low.shape[1] * 2.0**-22
    limit = bound - slack * queries.norms * passages.norms.max()
    segments = _product(queries.low, passages.low, buffer)  # (B, segments, SEGMENT)
    # Not `>`: NaN must pass.
    near = ~(segments.amax(-1).float() <= limit[:, None])
    lines, near_segments = near.nonzero(as_tuple=True)
    if len(lines) > CROWDED * near.numel():
        return None
    inside = ~(segments[lines, near_segments].float() <= limit[lines][:, None])
    entries, offsets = inside.nonzero(as_tuple=True)
    lines, columns = lines[entries], near_segments[entries] * SEGMENT + offsets
    scores = _scores(queries.vectors, passages.vectors, lines, columns)
    kept = ~(scores <= bound[lines])
    return Found(lines[kept], columns[kept], scores[kept])


def _product(queries: Tensor, passages: Tensor, buffer: Tensor) -> Tensor:
    """Return the scores in segments; the last one is padded with −∞."""
    count = len(passages)
    width = -(-count // SEGMENT) * SEGMENT
    scores = buffer[: len(queries) * width].view(len(queries), width)
    if width == count:
        torch.mm(queries, passages.T, out=scores)
    else:
        scores[:, :count] = queries @ passages.T
        scores[:, count:] = -torch.inf
    return scores.view(len(queries), -1, SEGMENT)


def _scores(
    queries: Tensor, passages: Tensor, lines: Tensor, columns: Tensor
) -> Float[Tensor, "found"]:
    pairs = zip(lines.split(RESCORED), columns.split(RESCORED), strict=True)
    return torch.cat([(queries[line] * passages[column]).sum(-1) for line, column in pairs])
