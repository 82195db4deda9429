"""Compare a system with a baseline: means, intervals, p-values and power of each measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from dalm.errors import UserError
from dalm.eval.metrics import Column, family_of, higher_is_better, is_bounded, mean
from dalm.eval.results import Results
from dalm.eval.significance import (
    Interval,
    detectable_differences,
    holm,
    least_p,
    mean_intervals,
    sign_flip_tests,
)

T = TypeVar("T")
Values = list[list[float]]

LEVEL, FLIPS = 0.95, 10_000
ALPHA, POWER = 0.05, 0.8
"""A difference is statistically significant up to an adjusted p of ALPHA. A difference could have
been shown if a test finds it in the fraction POWER of all test sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference from a baseline, over the `count` queries for which both have a value.

    `p` is that of a paired sign-flip test over documents, and `interval` holds the differences that
    it doesn't reject; None if no query differs, or if there are too few documents for any p up to
    0.05. `p_holm` is p adjusted for the number of measures, by stage of the search; None for a
    bound, which takes no part in the comparison. `better` and `worse` count queries. `detectable`
    is the smallest difference that these queries and documents could have shown, by itself, with a
    power of 80 %.
    """

    baseline: float
    difference: float
    interval: Interval | None
    p: float
    p_holm: float | None
    better: int
    worse: int
    count: int
    documents: int | None
    detectable: float | None

    @property
    def least_p(self) -> float:
        """The smallest p that so many documents allow, before it is adjusted."""
        return least_p(self.documents or self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """One measure: its mean over `count` queries of `documents`, its interval, its difference.

    `documents` is None if the data names none, and each query stands for itself. There is no
    interval if all queries are of one document.
    """

    measure: str
    mean: float
    count: int
    documents: int | None
    interval: Interval | None
    against: Difference | None = None

    @property
    def compared_mean(self) -> float:
        """The mean over the queries for which the baseline has a value, too."""
        other = self.against
        if other is None or other.count == self.count:
            return self.mean
        return other.baseline + other.difference

    @property
    def verdict(self) -> str:
        """`better` or `worse` than the baseline if the difference is significant, else `even`."""
        other = self.against
        if other is None or other.p_holm is None or other.p_holm > ALPHA or not other.difference:
            return "even"
        return "better" if self.improves else "worse"

    @property
    def improves(self) -> bool:
        """Whether it is on the better side of the baseline's, significantly or not."""
        change = self.against.difference if self.against else 0.0
        return change > 0 if higher_is_better(self.measure) else change < 0


def compare(
    results: Results, baseline: Results | None = None, *, seed: int = 0
) -> list[MeasureResult]:
    """Return each measure of `results`, with 95 % intervals clustered by `results.groups`.

    Queries of the baseline are matched by their ids. A measure without any value is left out.

    Raises:
        UserError: the two have different queries.
    """
    groups = results.groups
    mine = {name: column for name, column in results.measures.items() if _count(column)}
    intervals = _per_rows(mine, groups, _intervals)
    against = differences(mine, _aligned(results, baseline), results, seed) if baseline else {}
    return [
        MeasureResult(
            measure=name,
            mean=mean(column),
            count=_count(column),
            documents=_documents(results, column),
            interval=intervals[name],
            against=against.get(name),
        )
        for name, column in mine.items()
    ]


def changes(results: Results, baseline: Results, measure: str) -> list[tuple[int, float]]:
    """Return each query's position and improvement by `measure`, the largest loss first."""
    theirs = _aligned(results, baseline)[measure]
    sign = 1 if higher_is_better(measure) else -1
    pairs = zip(results.measures[measure], theirs, strict=True)
    found = [
        (i, sign * (mine - other))
        for i, (mine, other) in enumerate(pairs)
        if mine is not None and other is not None
    ]
    return sorted(found, key=lambda each: (each[1], each[0]))


def aligned(results: Results, baseline: Results) -> list[int]:
    """Return the position in `baseline` of each query of `results`.

    Raises:
        UserError: the two have different queries.
    """
    positions = {query.id: i for i, query in enumerate(baseline.queries)}
    missing = [query for query in results.queries if query.id not in positions]
    if missing or len(positions) != len(results.queries):
        count = len(missing) or len(positions) - len(results.queries)
        example = f", such as {missing[0].query[:60]!r}" if missing else ""
        which = (results.name, baseline.name) if missing else (baseline.name, results.name)
        raise UserError(
            f"{which[0]} has {count} queries that {which[1]} hasn't{example}; compare runs of the "
            "same dataset"
        )
    return [positions[query.id] for query in results.queries]


def _aligned(results: Results, baseline: Results) -> dict[str, Column]:
    positions = aligned(results, baseline)
    return {name: [column[p] for p in positions] for name, column in baseline.measures.items()}


def differences(
    mine: Mapping[str, Column], theirs: Mapping[str, Column], results: Results, seed: int
) -> dict[str, Difference]:
    """Return the difference of each of the columns that both have, for the queries of `results`."""
    gaps: dict[str, Column] = {}
    baselines: dict[str, float] = {}
    for name in [name for name in mine if name in theirs]:
        both = zip(mine[name], theirs[name], strict=True)
        pairs = [None if a is None or b is None else (a, b) for a, b in both]
        if any(pairs):
            gaps[name] = [None if pair is None else pair[0] - pair[1] for pair in pairs]
            baselines[name] = mean(pair[1] for pair in pairs if pair is not None)
    flips = partial(sign_flip_tests, seed=seed, samples=FLIPS, level=LEVEL)
    power = partial(detectable_differences, alpha=ALPHA, power=POWER)
    tests = _per_rows(gaps, results.groups, lambda _, values, groups: flips(values, groups))
    shown = _per_rows(gaps, results.groups, lambda _, values, groups: power(values, groups))
    families: dict[str, list[str]] = {}
    for name in gaps:
        if (family := family_of(name)) is not None:
            families.setdefault(family, []).append(name)
    adjusted: dict[str, float] = {}
    for names in families.values():
        adjusted |= zip(names, holm([tests[name].p for name in names]), strict=True)
    found = {}
    for name, gap in gaps.items():
        gains = [x if higher_is_better(name) else -x for x in gap if x is not None]
        found[name] = Difference(
            baseline=baselines[name],
            difference=mean(gap),
            interval=tests[name].interval,
            p=tests[name].p,
            p_holm=adjusted.get(name),
            better=sum(gain > 0 for gain in gains),
            worse=sum(gain < 0 for gain in gains),
            count=len(gains),
            documents=_documents(results, gap),
            detectable=shown[name],
        )
    return found


def _count(column: Column) -> int:
    return sum(value is not None for value in column)


def _documents(results: Results, column: Column) -> int | None:
    """Return how many documents the queries with a value are of; None if the data names none."""
    if not results.names_documents:
        return None
    pairs = zip(results.groups, column, strict=True)
    return len({group for group, value in pairs if value is not None})


def _intervals(
    names: Sequence[str], columns: Values, groups: Sequence[str]
) -> Sequence[Interval | None]:
    if len(set(groups)) < 2:
        return [None] * len(columns)
    bounded = [is_bounded(*each) for each in zip(names, columns, strict=True)]
    return mean_intervals(columns, groups, bounded=bounded, level=LEVEL)


def _per_rows(
    columns: Mapping[str, Column],
    groups: Sequence[str],
    statistic: Callable[[Sequence[str], Values, Sequence[str]], Sequence[T]],
) -> dict[str, T]:
    """Return a statistic of each column; those defined for the same queries share their samples."""
    by_rows: dict[tuple[int, ...], list[str]] = {}
    for name, column in columns.items():
        rows = tuple(row for row, value in enumerate(column) if value is not None)
        by_rows.setdefault(rows, []).append(name)
    found: dict[str, T] = {}
    for rows, names in by_rows.items():
        values = [[value for value in columns[name] if value is not None] for name in names]
        clusters = [groups[row] for row in rows]
        found |= zip(names, statistic(names, values, clusters), strict=True)
    return found
