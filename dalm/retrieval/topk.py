"""Find the k largest inner products of each query, exactly and block by block.

On a CPU a first pass finds the scores of a block that may be above the k-th best so far. It is in
bfloat16 where the processor has these products in hardware: they are several times as fast as fp32.
Their error is bounded, so every score that could be above the bound is found, and the few that are
found are computed again in fp32: the result is exact. Elsewhere the first pass is in fp32, and its
scores are the result's. What is found is joined with the best so far whenever the passages seen
have grown by half: joining after every block would cost more than the entries that a higher
bound saves.
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
FP32_PASSAGES = 2_048  # of a block on a CPU without bf16 products, whose scores take twice as much
PREFILTERED_QUERIES = 64  # from this many on a first pass in low precision pays on a CPU
SEGMENT = 64  # neighbouring scores that share their maximum: one comparison instead of 64
CROWDED = 0.5  # fraction of segments to look into above which a full pass costs less
RESCORED = 4_096  # pairs of vectors multiplied at once: 12 MB at 384 dimensions
GROWTH = 1.5  # of the passages seen between two joins of what was found
ROUNDING = 2.0**-9  # of bfloat16

Best = tuple[Tensor, Tensor]
"""Scores and rows, (B, K) each, best first."""


class Found(NamedTuple):
    """Entries above the bound, line by line and in a line by column, with their fp32 scores."""

    lines: Int[Tensor, "found"]
    columns: Int[Tensor, "found"]
    scores: Float[Tensor, "found"]


class PrefilterVectors(NamedTuple):
    """Vectors in fp32, in the precision of the first pass, and their norms if it is a lower one."""

    vectors: Float[Tensor, "n dim"]
    low: Float[Tensor, "n dim"]
    norms: Float[Tensor, "n"]

    @classmethod
    def of(cls, vectors: Float[Tensor, "n dim"]) -> "PrefilterVectors":
        """Prepare fp32 vectors once for all comparisons."""
        if not has_bf16(vectors.device):
            return cls(vectors, vectors, vectors.new_empty(0))
        return cls(vectors, vectors.bfloat16(), vectors.norm(dim=1))


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
    scores = queries.new_empty(rows_per_block * columns, dtype=torch.float32)
    prefilters = queries.device.type == "cpu" and len(queries) >= PREFILTERED_QUERIES
    parts = [_Part(part, k, prefilters) for part in torch.split(queries.float(), rows_per_block)]
    buffer = torch.empty(0)
    if parts[0].low is not None:
        buffer = torch.empty(rows_per_block * (columns + SEGMENT), dtype=parts[0].low.low.dtype)
    starts = range(0, len(passages), columns)
    for start in track(starts, len(passages), "searching", "passages", lambda _: columns):
        # Passages outermost: a half-precision block is widened once, not once for every query.
        candidates = passages[start : start + columns].float()
        low = PrefilterVectors.of(candidates) if prefilters and start >= k else None
        for part in parts:
            if low is not None and part.screen(low, start, buffer):
                continue
            shape = len(part.queries), len(candidates)
            product = scores[: shape[0] * shape[1]].view(shape)
            torch.mm(part.queries, candidates.T, out=product)
            part.add(product, start)
    best = [part.finish() for part in parts]
    return torch.cat([s for s, _ in best]), torch.cat([r for _, r in best])


class _Part:
    """Some of the queries, their best so far, and what is found above its bound since."""

    def __init__(self, queries: Float[Tensor, "B dim"], k: int, prefilters: bool) -> None:
        self.queries, self.k = queries, k
        self.low = PrefilterVectors.of(queries) if prefilters else None
        empty = queries.new_empty(len(queries), 0)
        self.best: Best = empty, empty.long()
        self.found: list[Found] = []
        self.join_at = 0.0

    def add(self, scores: Float[Tensor, "B C"], start: int) -> None:
        """Take all scores of a block whose columns begin at row `start`."""
        self._join(start + scores.shape[1])
        values, columns = _largest(scores, self.k)
        self.best = _merge(self.best, (values, columns + start), self.k)

    def screen(self, passages: PrefilterVectors, start: int, buffer: Tensor) -> bool:
        """Find a block's entries above the bound; False if a full pass costs less."""
        assert self.low is not None
        if start >= self.join_at or self._waiting() > self.best[0].numel():
            self._join(start)
        found = above(self.low, passages, self.best[0][:, -1], buffer)
        if found is None:
            return False
        self.found.append(found._replace(columns=found.columns + start))
        return True

    def _waiting(self) -> int:
        return sum(len(found.lines) for found in self.found)

    def _join(self, seen: int) -> None:
        if self.found:
            parts = [torch.cat(each) for each in zip(*self.found, strict=True)]
            order = parts[0].argsort(stable=True)  # in a line the rows remain ascending
            self.best = _insert(self.best, Found(*(each[order] for each in parts)), self.k)
        self.found, self.join_at = [], GROWTH * seen

    def finish(self) -> Best:
        """Return the best of all blocks."""
        self._join(0)
        return self.best


def _block(queries: Tensor, count: int) -> tuple[int, int]:
    """Choose the shape of a block of scores that stays within the device's budget."""
    device = queries.device.type if queries.device.type in BLOCK_BYTES else "cpu"
    most, size = BLOCK_PASSAGES[device], BLOCK_BYTES[device]
    if device == "cpu" and not has_bf16(queries.device):
        most, size = FP32_PASSAGES, size // 2
    columns = max(1, min(count, most))
    return max(1, min(len(queries), size // (4 * columns))), columns


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


def _merge(best: Best, found: Best, k: int) -> Best:
    """Join the best so far with those of later rows."""
    scores = torch.cat([best[0], found[0]], dim=1)
    rows = torch.cat([best[1], found[1]], dim=1)
    # Stable: among equal scores the lower rows are first already.
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores[:, :k], rows.gather(1, order[:, :k])


def _insert(best: Best, found: Found, k: int) -> Best:
    """Join the best so far with the entries that the prefilter found in later rows.

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
    joined = _merge((best[0][lines], best[1][lines]), (scores, columns), k)
    for whole, part in zip(best, joined, strict=True):
        whole[lines] = part
    return best


# A first pass, in low precision where that is faster


def above(
    queries: PrefilterVectors, passages: PrefilterVectors, bound: Float[Tensor, "B"], buffer: Tensor
) -> Found | None:
    """Return every entry of queries · passagesᵀ that is above its line's `bound`, or is NaN.

    With unit roundoff u, rounding both vectors and the product to bfloat16 moves a score by at most
    (3u + u²) ‖q‖ ‖p‖ (Cauchy–Schwarz on Σ|q_i||p_i|), and adding up `dim` products in fp32 by
    dim · 2⁻²⁴ ‖q‖ ‖p‖; four times as much is allowed for the latter. `buffer` takes the scores of
    the first pass. None if so many are near the bound that a full pass costs less.
    """
    limit, is_exact = bound, queries.low.dtype == torch.float32
    if not is_exact:
        slack = 3 * ROUNDING + ROUNDING**2 + queries.low.shape[1] * 2.0**-22
        limit = bound - slack * queries.norms * passages.norms.max()
    segments = _product(passages.low, queries.low, buffer)  # (segments, SEGMENT, B)
    # Not `>`: NaN must pass.
    near = ~(segments.amax(1).float() <= limit)
    near_segments, lines = near.nonzero(as_tuple=True)
    if len(lines) > CROWDED * near.numel():
        return None
    scores = segments[near_segments, :, lines].float()
    entries, offsets = (~(scores <= limit[lines][:, None])).nonzero(as_tuple=True)
    lines, columns = lines[entries], near_segments[entries] * SEGMENT + offsets
    if is_exact:
        return Found(lines, columns, scores[entries, offsets])
    scores = _scores(queries.vectors, passages.vectors, lines, columns)
    kept = ~(scores <= bound[lines])
    return Found(lines[kept], columns[kept], scores[kept])


def _product(passages: Tensor, queries: Tensor, buffer: Tensor) -> Tensor:
    """Return the scores in segments of passages; the last one is padded with −∞.

    Passages by queries: then a segment's maximum is one of whole rows, which lie in the cache.
    """
    count, width = len(passages), -(-len(passages) // SEGMENT) * SEGMENT
    scores = buffer[: width * len(queries)].view(width, len(queries))
    torch.mm(passages, queries.T, out=scores[:count])
    scores[count:] = -torch.inf
    return scores.view(-1, SEGMENT, len(queries))


def _scores(
    queries: Tensor, passages: Tensor, lines: Tensor, columns: Tensor
) -> Float[Tensor, "found"]:
    pairs = zip(lines.split(RESCORED), columns.split(RESCORED), strict=True)
    return torch.cat([(queries[line] * passages[column]).sum(-1) for line, column in pairs])
