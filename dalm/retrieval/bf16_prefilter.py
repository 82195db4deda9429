"""Prefilter a block of passages in bfloat16 for the scores that may be above a bound.

bfloat16 products are several times as fast as fp32 where the processor has them in hardware. Their
error is bounded, so every score that could be above the bound is found, and the few that are found
are computed again in fp32: the result is exact.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalm.models.loading import has_bf16

SEGMENT = 64  # neighbouring scores that share their maximum: one comparison instead of 64
CROWDED = 0.5  # fraction of segments to look into above which a full pass costs less
RESCORED = 4_096  # pairs of vectors multiplied at once: 12 MB at 384 dimensions
ROUNDING = {torch.bfloat16: 2.0**-9, torch.float32: 2.0**-24}


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
