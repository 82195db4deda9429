"""Values per query and the documents they stem from in, intervals and p-values out.

Questions about one document share its difficulty, so whole clusters are drawn, not queries:
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


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the percentile interval of the mean of `values`, (n,), under a cluster bootstrap.

    A sample draws as many clusters as there are, with replacement, and is the mean of all their
    values: Σ w_c Σ_{i∈c} v_i / Σ w_c n_c. Davison and Hinkley, 1997, Bootstrap Methods.
    Raises ValueError for fewer than two clusters: one says nothing of the spread between them.
    """
    (interval,) = bootstrap_intervals([values], clusters, seed=seed, samples=samples, level=level)
    return interval


def paired_interval(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the mean of a − b, measured on the same queries."""
    difference = _vector(a) - _vector(b)
    return bootstrap_interval(difference, clusters, seed=seed, samples=samples, level=level)


def bootstrap_intervals(
    columns: Sequence[ArrayLike],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 2000,
    level: float = 0.95,
) -> list[Interval]:
    """Return `bootstrap_interval` of several columns of values, from the same samples."""
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


def sign_flip_p(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 10_000,
) -> float:
    """Return the two-sided p of a paired randomisation test: is the mean of a − b zero?

    Each cluster's summed difference changes its sign by the toss of a coin. p = (1 + number of
    tosses at least as extreme as what was seen) / (1 + samples), so p is never 0. Phipson and
    Smyth, 2010, arXiv:1603.05766.
    """
    return sign_flip_ps([_vector(a) - _vector(b)], clusters, seed=seed, samples=samples)[0]


def sign_flip_ps(
    differences: Sequence[ArrayLike],
    clusters: Sequence[Hashable],
    *,
    seed: int,
    samples: int = 10_000,
) -> list[float]:
    """Return `sign_flip_p` of several columns of differences, from the same tosses."""
    sums, sizes = _cluster_sums(differences, clusters)
    # A hair lower: the same sum in another order may come out an ulp short of itself.
    seen = np.abs(sums.sum(0)) - 1e-12 * np.abs(sums).sum(0)
    generator = np.random.default_rng(seed)
    extreme = np.zeros(len(differences), dtype=np.int64)
    for size in _blocks(samples, len(sizes)):
        signs = 2.0 * generator.integers(2, size=(size, len(sizes)), dtype=np.int8) - 1
        extreme += (np.abs(signs @ sums) >= seen).sum(0)
    return [float(p) for p in (1 + extreme) / (1 + samples)]


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being several, so that none is found by looking often.

    In ascending order, p̃_i = max over j ≤ i of min(1, (m − j + 1) p_j). Under 0.05 all of them
    hold together with 95 %, however they depend on each other. Holm, 1979, Scand. J. Statist. 6.
    """
    adjusted = [0.0] * len(ps)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = least
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
    # By name, so that the same queries in another order draw the same samples.
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
    """Cut the samples into blocks that stay within the budget."""
    size = max(1, BLOCK // max(1, clusters))
    for start in range(0, samples, size):
        yield min(size, samples - start)
