"""Compute confidence intervals and paired tests whose unit is a document, also with few documents.

Questions about one document share its difficulty, so that n questions of G documents say less than
n independent ones. A percentile bootstrap over documents covers too rarely when there are few: 0.66
to 0.90 instead of 0.95 with 8 documents (`experiments/interval_coverage.py` measures it).

    mean        cluster-robust variance (CR2), Student's t with degrees of freedom from the sizes of
                the documents; for rates and other values in [0, 1] as a score interval (Wilson)
    difference  all differences that a sign-flip test over documents doesn't reject, so that an
                interval excludes 0 exactly if p is at most 1 − its level
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

BLOCK = 1 << 22  # entries of (samples, clusters) held at once: 32 MB
DRAWN = 25_000_000  # signs at most: 10,000 samples up to 2,500 clusters, 2,500 of 10,000 clusters
ROUNDING = 1e-12  # a mean that is nearer to 0 is 0: the same sum in another order may differ by it

Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A confidence interval's ends."""

    low: float
    high: float


class SignFlipTest(NamedTuple):
    """Whether a mean difference is zero, and the differences that the test doesn't reject."""

    p: float
    interval: Interval | None
    """None if no difference would be rejected: with five clusters p is never below 1/16."""


# Means


def mean_intervals(
    columns: Sequence[ArrayLike],
    clusters: Sequence[Hashable],
    *,
    bounded: Sequence[bool],
    level: float = 0.95,
) -> list[Interval]:
    """Return the interval of each column's mean m.

    `columns` are vectors of the same n values, one per query. V is the variance of m and t the
    quantile of Student's distribution (see `ClusteredMeans`). A `bounded` column, whose values lie
    in [0, 1], has the score interval: all μ with |m − μ| ≤ t √(μ (1 − μ) / n'), where
    n' = m (1 − m) / V is the effective number of queries; if m is 0 or 1, the number of clusters.
    It stays within [0, 1], and has a width if all values are 0 or all are 1. Other columns have
    m ± t √V. Wilson, 1927, J. Am. Statist. Assoc. 22; with a design effect: Korn and Graubard,
    1998, Survey Methodology 24.
    Raises ValueError for fewer than two clusters: one doesn't show the spread between them.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must be between 0 and 1, not {level}")
    means = ClusteredMeans.of(columns, clusters)
    quantile = stats.t.ppf((1 + level) / 2, means.degrees_of_freedom)
    return [
        _score_interval(m, variance, quantile, len(means.sizes))
        if is_bounded
        else Interval(float(m - quantile * variance**0.5), float(m + quantile * variance**0.5))
        for m, variance, is_bounded in zip(means.means, means.variances, bounded, strict=True)
    ]


def _score_interval(m: float, variance: float, quantile: float, clusters: int) -> Interval:
    spread = m * (1 - m)
    w = quantile**2 * (variance / spread if spread > ROUNDING else 1 / clusters)
    half = (w * max(0.0, spread) + w**2 / 4) ** 0.5
    low, high = (m + w / 2 - half) / (1 + w), (m + w / 2 + half) / (1 + w)
    return Interval(max(0.0, float(low)), min(1.0, float(high)))


@dataclass(frozen=True)
class ClusteredMeans:
    """Means of columns over n values in G clusters, with their variances.

    `sums` (G, columns) and `squares` (G, columns) are each cluster's sums of values and of their
    squares, `sizes` (G,) its number of values n_g.
    """

    sums: Values
    squares: Values
    sizes: Values

    @classmethod
    def of(cls, columns: Sequence[ArrayLike], clusters: Sequence[Hashable]) -> "ClusteredMeans":
        """Add up each cluster's values.

        Raises ValueError for other lengths, values that aren't finite, fewer than two clusters.
        """
        members, count = _members(clusters)
        vectors = _vectors(columns, len(members))
        if count < 2:
            raise ValueError(f"an interval needs two clusters or more, not {count}")
        sizes = np.bincount(members, minlength=count).astype(np.float64)
        squares = [np.square(vector) for vector in vectors]
        return cls(_sums(vectors, members, count), _sums(squares, members, count), sizes)

    @cached_property
    def means(self) -> Values:
        """The mean of each column's values."""
        means: Values = self.sums.sum(0) / self.sizes.sum()
        return means

    @cached_property
    def variances(self) -> Values:
        """The variance of each mean, robust to any dependence within clusters.

        CR2, V = Σ_g e_g² / (1 − n_g/n) / n², with e_g = Σ_{i∈g} (v_i − m): unbiased if the values
        are independent. No less than it is for independent values, s²/n: where clusters seem to
        make a mean more certain, few clusters do so by chance. Bell and McCaffrey, 2002, Survey
        Methodology 28.
        """
        n = float(self.sizes.sum())
        residuals = self.sums - self.sizes[:, None] * self.means
        clustered = (residuals**2 / (1 - self.sizes / n)[:, None]).sum(0) / n**2
        independent = (self.squares.sum(0) - n * self.means**2) / (n - 1) / n
        variances: Values = np.maximum(clustered, independent)
        return variances

    @cached_property
    def degrees_of_freedom(self) -> float:
        """The degrees of freedom of V, by Satterthwaite: at most G − 1, fewer for unequal sizes.

        (tr C)² / tr(C²), where C is the covariance of the terms of V, e_g / √(1 − n_g/n), if the
        values of a cluster are all equal: the least favourable case, which needs no estimate of
        how much they are alike. Pustejovsky and Tipton, 2018, J. Bus. Econ. Statist. 36.
        """
        share = self.sizes / self.sizes.sum()
        own, scale = self.sizes**2, 1 / np.sqrt(1 - share)  # variance of a cluster's sum; of e_g
        # C = diag(d) − a bᵀ − b aᵀ + W a aᵀ
        d, a, b, total = own * scale**2, share * scale, own * scale, own.sum()
        diagonal = -2 * a * b + total * a**2
        aa, ab, bb = a @ a, a @ b, b @ b
        rest = 2 * aa * bb + 2 * ab**2 + total**2 * aa**2 - 4 * total * aa * ab
        return float((d + diagonal).sum() ** 2 / (d @ d + 2 * d @ diagonal + rest))


def detectable_differences(
    differences: Sequence[ArrayLike],
    clusters: Sequence[Hashable],
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> list[float | None]:
    """Return the difference that each column could have shown: its minimum detectable effect.

    (t_{1−α/2} + t_{power}) √V: if the true difference is that large, a two-sided test at the level
    α finds it in a fraction `power` of all test sets of this size. V and the degrees of freedom of
    t are those of the observed paired differences (see `ClusteredMeans`). None if no query differs,
    and if the clusters are too few for any p up to α. Bloom, 1995, Evaluation Review 19; for
    language processing: Card et al., 2020, arXiv:2010.06595.
    """
    if least_p(len(set(clusters))) > alpha or not differences:
        return [None] * len(differences)
    means = ClusteredMeans.of(differences, clusters)
    quantiles = stats.t.ppf([1 - alpha / 2, power], means.degrees_of_freedom).sum()
    return [float(quantiles * v**0.5) if v > ROUNDING**2 else None for v in means.variances]


# Differences


def least_p(clusters: int) -> float:
    """Return the smallest p of a sign-flip test: 2 of the 2^k signs of k clusters, 2^(1−k)."""
    return min(1.0, 2.0 ** (1 - clusters))


def sign_flip_tests(
    differences: Sequence[ArrayLike],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 10_000,
    level: float = 0.95,
) -> list[SignFlipTest]:
    """Return the two-sided paired randomisation test of each column: is its mean zero?

    `differences` are vectors of a − b for the same n queries; all share the same samples. Each
    cluster's summed difference changes its sign with probability ½. p is the fraction of the signs
    with a sum at least as extreme as what was observed: of all 2^G signs of G clusters if half of
    them are at most `samples`, else (1 + extreme) / (1 + samples), so p is never 0. Beyond 2,500
    clusters fewer samples are drawn (`DRAWN`). Phipson and Smyth, 2010, arXiv:1603.05766.

    The interval holds every δ for which a − b − δ isn't rejected. A sample is as extreme for all δ
    between the mean of the clusters that it flips and that of the others, and for no other, so the
    ends are quantiles of these means. Hartigan, 1969, J. Am. Statist. Assoc. 64. None if nothing
    differs, too: that no query differed doesn't say that none would.
    """
    members, count = _members(clusters)
    vectors = _vectors(differences, len(members))
    if not vectors:
        return []
    samples = min(samples, max(1_000, DRAWN // count))
    sizes = np.bincount(members, minlength=count).astype(np.float64)
    sums = np.column_stack([_sums(vectors, members, count), sizes])
    drawn = [
        _two_means(flips @ sums.astype(flips.dtype), sums) for flips in _flips(count, samples, seed)
    ]
    low, high = (np.concatenate(ends) for ends in zip(*drawn, strict=True))
    # The sample that flips nothing is as extreme as what was observed, whatever δ is.
    total = 1 + len(low)
    p = (1 + ((low <= 0) & (high >= 0)).sum(0)) / total
    kept = int((1 - level) * total + 1e-9)  # of `low`, at least so many are below any δ inside
    if not kept:
        return [SignFlipTest(float(each), None) for each in p]
    lows = np.partition(low, kept - 1, axis=0)[kept - 1]
    highs = np.partition(high, total - 1 - kept, axis=0)[total - 1 - kept]
    equal = np.abs(sums[:, :-1]).max(0) == 0
    return [
        SignFlipTest(float(each), None if same else Interval(float(left), float(right)))
        for each, left, right, same in zip(p, lows, highs, equal, strict=True)
    ]


def _two_means(flipped: NDArray[Any], sums: Values) -> tuple[Values, Values]:
    """Return the lower and the higher mean of the clusters flipped and not, (samples, columns).

    `flipped` are the sums of those flipped; the last column is that of the sizes. A sample that
    flips all or none has one mean, and all δ are between.
    """
    kept = sums.sum(0) - flipped
    with np.errstate(invalid="ignore", divide="ignore"):
        sides = [side[:, :-1] / side[:, -1:] for side in (flipped, kept)]
    for side in sides:
        side[np.abs(side) < ROUNDING] = 0.0
    one_side = np.isnan(sides[0]) | np.isnan(sides[1])
    low, high = np.minimum(*sides), np.maximum(*sides)
    return np.where(one_side, -np.inf, low), np.where(one_side, np.inf, high)


def _flips(clusters: int, samples: int, seed: int) -> Iterator[NDArray[Any]]:
    """Yield which clusters change their sign, (samples, clusters), in blocks.

    All ways but the observed one if they are at most `samples`; a sample and its opposite are
    equally extreme, so the first cluster keeps its sign. Else random ones.
    """
    if 2 ** (clusters - 1) <= samples:
        ways = np.array(list(product((0.0, 1.0), repeat=clusters)))
        yield ways[1 : len(ways) // 2]
        return
    # Half the time; what it loses is far below the error of drawing samples.
    dtype = np.float32 if clusters > 1000 else np.float64
    generator = np.random.default_rng(seed)
    size = max(1, BLOCK // clusters)
    for start in range(0, samples, size):
        shape = (min(size, samples - start), -(-clusters // 8))
        bits = np.unpackbits(generator.integers(256, size=shape, dtype=np.uint8), axis=1)
        yield bits[:, :clusters].astype(dtype)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple comparisons by Holm's method.

    In ascending order, p̃_i = max over j ≤ i of min(1, (m − j + 1) p_j). Rejecting those up to 0.05
    keeps the family-wise error rate at 5 % under any dependence. Holm, 1979, Scand. J. Statist. 6.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


# Clusters


def _members(clusters: Sequence[Hashable]) -> tuple[NDArray[np.int64], int]:
    """Return each value's cluster as a number, and how many clusters there are."""
    # Sorted by name, so that the same queries in another order draw the same samples.
    codes = {cluster: code for code, cluster in enumerate(sorted(set(clusters), key=repr))}
    return np.array([codes[cluster] for cluster in clusters], dtype=np.int64), len(codes)


def _vectors(columns: Sequence[ArrayLike], length: int) -> list[Values]:
    vectors = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(vector.ndim != 1 or not np.isfinite(vector).all() for vector in vectors):
        raise ValueError("values must be finite numbers, one per query")
    if any(len(vector) != length for vector in vectors):
        lengths = [len(vector) for vector in vectors]
        raise ValueError(f"{length} clusters, but {lengths} values")
    return vectors


def _sums(vectors: Sequence[Values], members: NDArray[np.int64], count: int) -> Values:
    """Return each cluster's sum of every column, (clusters, columns)."""
    sums = np.zeros((count, len(vectors)))
    for column, vector in enumerate(vectors):
        sums[:, column] = np.bincount(members, vector, minlength=count)
    return sums
