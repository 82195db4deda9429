"""Measure how often 95 % intervals cover the truth: `python experiments/interval_coverage.py`.

Simulated test sets: G documents with 1 to some 30 questions each (a geometric number, mean 6), or
40 questions of 40 documents. A document's rate of right answers is drawn from a beta
distribution with the intra-cluster correlation ρ, and 0/1 values from that; graded values give half
of the wrong answers half a point, as F1 does. Differences are of two systems with the same
difficulty of a document, the second of which loses some of the answers that the first has right,
and gets others right; both rates vary between documents as well.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dalm.eval.significance import Interval, mean_intervals, sign_flip_tests

Values = NDArray[np.float64]
Drawn = tuple[list[Values], list[int]]
"""Columns of values, one per simulated test set, and the document of each query."""
Method = Callable[[Sequence[Values], Sequence[int]], Sequence[Interval | None]]
COLUMNS = 25
"""Test sets with the same sizes of documents, which share the samples of a method."""


class Setting(NamedTuple):
    """What is simulated: documents, their correlation, the mean, and what kind of values."""

    documents: int
    rho: float
    mean: float
    graded: bool = False
    difference: float | None = None
    """The true difference of two systems, of which the better one has the mean `mean`."""

    @property
    def churn(self) -> float:
        """The fraction of the queries that only the worse of two systems answers."""
        return min(0.05, (1 - self.mean) / 2)

    def __str__(self) -> str:
        kind = "graded" if self.graded else "0/1"
        if self.difference is not None:
            kind = f"difference {self.difference:g}"
        return f"{self.documents:9} | {self.rho:4} | {self.mean:4} | {kind}"


# What is simulated


def sizes(setting: Setting, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the number of questions of each document; 1 without correlation."""
    shape = setting.documents
    return random.geometric(1 / 6, shape) if setting.rho else np.ones(shape, dtype=np.int64)


def rates(mean: float, setting: Setting, random: np.random.Generator, count: int) -> Values:
    """Return a rate for each document of each of `count` test sets."""
    if not setting.rho:
        return np.full((count, setting.documents), mean)
    strength = 1 / setting.rho - 1
    return random.beta(mean * strength, (1 - mean) * strength, (count, setting.documents))


def draw(setting: Setting, random: np.random.Generator, count: int = COLUMNS) -> Drawn:
    """Draw the values of `count` test sets whose documents have the same sizes."""
    number = sizes(setting, random)
    document = np.repeat(np.arange(setting.documents), number)

    def happens(mean: float) -> NDArray[np.bool_]:
        rate = rates(mean, setting, random, count)[:, document]
        return random.random(rate.shape) < rate

    if setting.difference is not None:
        right = happens(setting.mean)
        lost = happens((setting.churn + setting.difference) / setting.mean)
        won = happens(setting.churn / (1 - setting.mean))
        values = (right & lost).astype(float) - (~right & won)
    elif setting.graded:
        right = happens((setting.mean - 0.25) / 0.75)
        values = right + 0.5 * (~right & (random.random(right.shape) < 0.5))
    else:
        values = happens(setting.mean).astype(float)
    return list(values), document.tolist()


def truth(setting: Setting) -> float:
    """Return the mean that the intervals should cover."""
    return setting.mean if setting.difference is None else setting.difference


# Methods


def ours(columns: Sequence[Values], documents: Sequence[int]) -> Sequence[Interval | None]:
    """Return the intervals that evaluations print: of means, or of differences."""
    if min(map(np.min, columns)) < 0:
        return [each.interval for each in sign_flip_tests(columns, documents, seed=0, samples=2000)]
    return mean_intervals(columns, documents, bounded=[True] * len(columns))


def percentile(columns: Sequence[Values], documents: Sequence[int]) -> list[Interval]:
    """Return percentile intervals of a bootstrap over documents."""
    sums, number = _sums(columns, documents)
    random, count = np.random.default_rng(0), len(number)
    weights = random.multinomial(count, np.full(count, 1 / count), size=1000)
    means = (weights @ sums) / (weights @ number)[:, None]
    return [Interval(*ends) for ends in np.quantile(means, [0.025, 0.975], axis=0).T]


def student(columns: Sequence[Values], documents: Sequence[int]) -> list[Interval]:
    """Return m ± t(G − 1) √V, with the usual cluster-robust variance (CR1)."""
    sums, number = _sums(columns, documents)
    n, count = number.sum(), len(number)
    means = sums.sum(0) / n
    residuals = ((sums - number[:, None] * means) ** 2).sum(0)
    error = np.sqrt(residuals * count / (count - 1)) / n * stats.t.ppf(0.975, count - 1)
    return [Interval(*ends) for ends in zip(means - error, means + error, strict=True)]


def _sums(columns: Sequence[Values], documents: Sequence[int]) -> tuple[Values, Values]:
    sums = np.column_stack([np.bincount(documents, column) for column in columns])
    return sums, np.bincount(documents).astype(float)


METHODS: dict[str, Method] = {"percentile": percentile, "CR1, t": student, "DALM": ours}


# Figures


class Coverage(NamedTuple):
    """How often intervals cover the truth, their mean width, and how many there were."""

    share: float
    width: float
    intervals: int


def coverage(method: Method, setting: Setting, repeats: int, seed: int = 0) -> Coverage:
    """Return how often a method's 95 % intervals cover the truth in `repeats` test sets.

    Test sets for which it gives no interval, as no query differs, are left out.
    """
    random, covered, widths = np.random.default_rng(seed), 0, list[float]()
    for _ in range(0, repeats, COLUMNS):
        for interval in filter(None, method(*draw(setting, random))):
            covered += interval.low - 1e-9 <= truth(setting) <= interval.high + 1e-9
            widths.append(interval.high - interval.low)
    return Coverage(covered / len(widths), float(np.mean(widths)), len(widths))


def settings() -> Iterator[Setting]:
    """Yield what the table shows."""
    documents = [(g, rho) for g in (8, 16, 36) for rho in (0.1, 0.3)] + [(100, 0.2), (40, 0.0)]
    for count, rho in documents:
        for mean in (0.5, 0.8, 0.95):
            yield Setting(count, rho, mean)
            yield Setting(count, rho, mean, graded=True)
    for count, rho in documents:
        for mean, difference in ((0.5, 0.0), (0.5, 0.2), (0.8, 0.1), (0.95, 0.0), (0.95, 0.1)):
            yield Setting(count, rho, mean, difference=difference)


def main() -> None:
    print(f"documents | rho  | mean | values | {' | '.join(METHODS)}  (coverage, mean width)")
    for setting in settings():
        found = [coverage(method, setting, 2000) for method in METHODS.values()]
        cells = (f"{each.share:.3f} {each.width:.2f}" for each in found)
        print(setting, "|", " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
