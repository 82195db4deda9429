"""Compute cluster bootstrap intervals and paired randomisation tests.

Questions about one document share its difficulty, so whole documents are drawn, not queries:
resampling queries gives intervals that are too narrow. All columns are resampled together, which
costs the time of one.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 1 << 22  # entries of (samples, clusters) held at once: 32 MB

Values = NDArray[np.float64]


class Interval(NamedTuple):
    """A confidence interval's ends."""

    low: float
    high: float


def bootstrap_intervals(
    columns: Sequence[ArrayLike],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 2000,
    level: float = 0.95,
) -> list[Interval]:
    """Return the percentile interval of each column's mean under a cluster bootstrap.

    `columns` are vectors of the same n values, one per query; all share the same samples. A sample
    draws as many clusters as there are, with replacement, and is the mean of all their values:
    Σ w_c Σ_{i∈c} v_i / Σ w_c n_c. Davison and Hinkley, 1997, Bootstrap Methods.
    Raises ValueError for fewer than two clusters: one doesn't show the spread between them.
    """
    sums, sizes = _cluster_sums(columns, clusters)
    count = len(sizes)
    if count < 2:
        raise ValueError(f"an interval needs two clusters or more, not {count}")
    if not 0 < level < 1:
        raise ValueError(f"the level must be between 0 and 1, not {level}")
    generator = np.random.default_rng(seed)
    drawn = []
    for size in _blocks(samples, count):
        clusters_drawn = generator.integers(count, size=(size, count))
        places = clusters_drawn + count * np.arange(size)[:, None]
        weights = np.bincount(places.ravel(), minlength=size * count).reshape(size, count)
        drawn.append((weights @ sums) / (weights @ sizes)[:, None])  # (size, columns)
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    return [Interval(float(left), float(right)) for left, right in zip(low, high, strict=True)]


def sign_flip_ps(
    differences: Sequence[ArrayLike],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 10_000,
) -> list[float]:
    """Return the two-sided p of a paired randomisation test for each column: is its mean zero?

    `differences` are vectors of a − b for the same n queries; all share the same samples. Each
    cluster's summed difference changes its sign with probability ½. p = (1 + number of samples at
    least as extreme as what was observed) / (1 + samples), so p is never 0. Phipson and Smyth,
    2010, arXiv:1603.05766.
    """
    sums, sizes = _cluster_sums(differences, clusters)
    # Slightly lower, since the same sum in another order may be an ulp smaller.
    observed = np.abs(sums.sum(0)) - 1e-12 * np.abs(sums).sum(0)
    generator = np.random.default_rng(seed)
    extreme = np.zeros(len(differences), dtype=np.int64)
    for size in _blocks(samples, len(sizes)):
        signs = 2.0 * generator.integers(2, size=(size, len(sizes)), dtype=np.int8) - 1
        extreme += (np.abs(signs @ sums) >= observed).sum(0)
    return [float(p) for p in (1 + extreme) / (1 + samples)]


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple comparisons by Holm's method.

    In ascending order, p̃_i = max over j ≤ i of min(1, (m − j + 1) p_j). Rejecting those below 0.05
    keeps the family-wise error rate at 5 % under any dependence. Holm, 1979, Scand. J. Statist. 6.
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def _vector(values: ArrayLike) -> Values:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError("values must be finite numbers, one per query")
    return vector


def _cluster_sums(
    columns: Sequence[ArrayLike], clusters: Sequence[Hashable]
) -> tuple[Values, NDArray[Any]]:
    """Return each cluster's sum of every column, (clusters, columns), and its size."""
    # Sorted by name, so that the same queries in another order draw the same samples.
    codes = {cluster: code for code, cluster in enumerate(sorted(set(clusters), key=repr))}
    members = np.array([codes[cluster] for cluster in clusters], dtype=int)
    vectors = [_vector(column) for column in columns]
    if any(len(vector) != len(members) for vector in vectors):
        lengths = [len(vector) for vector in vectors]
        raise ValueError(f"{len(members)} clusters, but {lengths} values")
    sums = np.zeros((len(codes), len(vectors)))
    for column, vector in enumerate(vectors):
        sums[:, column] = np.bincount(members, vector, minlength=len(codes))
    return sums, np.bincount(members, minlength=len(codes))


def _blocks(samples: int, clusters: int) -> Iterator[int]:
    """Split the samples into blocks of at most `BLOCK` entries."""
    size = max(1, BLOCK // max(1, clusters))
    for start in range(0, samples, size):
        yield min(size, samples - start)
