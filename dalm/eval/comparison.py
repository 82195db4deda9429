"""Compare a system with a baseline: means, confidence intervals and p-values of each measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from dalm.errors import UserError
from dalm.eval.metrics import Column, higher_is_better, is_bound, label, mean
from dalm.eval.results import Results
from dalm.eval.significance import Interval, bootstrap_intervals, holm, sign_flip_ps

T = TypeVar("T")
Values = list[list[float]]

LEVEL, SAMPLES, FLIPS = 0.95, 2000, 10_000
ALPHA = 0.05
"""A difference with an adjusted p below it is statistically significant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference from a baseline, over the queries for which both have a value.

    `p` is that of a paired sign-flip test, `p_holm` the same adjusted for the number of measures;
    None for a bound, which takes no part in the comparison. `better` and `worse` count queries.
    """

    baseline: float
    difference: float
    interval: Interval | None
    p: float
    p_holm: float | None
    better: int
    worse: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """One measure: its mean over `count` queries, its interval, its difference from a baseline.

    There is no interval if all queries are of one document.
    """

    measure: str
    mean: float
    count: int
    interval: Interval | None
    against: Difference | None = None

    @property
    def verdict(self) -> str:
        """`better` or `worse` than the baseline if the difference is significant, else `even`."""
        other = self.against
        if other is None or other.p_holm is None or other.p_holm >= ALPHA or not other.difference:
            return "even"
        return "better" if (other.difference > 0) == higher_is_better(self.measure) else "worse"


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
    intervals = _intervals(mine, groups, seed)
    against = _differences(mine, _aligned(results, baseline), groups, seed) if baseline else {}
    return [
        MeasureResult(
            measure=name,
            mean=mean(column),
            count=_count(column),
            interval=intervals[name],
            against=against.get(name),
        )
        for name, column in mine.items()
    ]


def sentence(result: MeasureResult) -> str:
    """Return a measure in words: its change from the baseline, whether significant, over what."""
    name, other = label(result.measure), result.against
    if other is None:
        ends = f" (95 % interval {_range(result.interval)})" if result.interval else ""
        return f"{name} is {result.mean:.3f}{ends} over {result.count} queries"
    if not other.better and not other.worse:
        return f"{name} is {result.mean:.3f} for both systems on every query"
    ends = f"95 % interval of the difference {_range(other.interval)}, " if other.interval else ""
    p, kind = (other.p, "p") if other.p_holm is None else (other.p_holm, "adjusted p")
    test = f"{ends}{kind} {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    counts = f"better on {_queries(other.better)}, worse on {other.worse}"
    if result.verdict == "even":
        return (
            f"{name} is {result.mean:.3f}, baseline {other.baseline:.3f}, not statistically "
            f"significant ({test}); {counts}"
        )
    moved = "rose" if other.difference > 0 else "fell"
    return f"{name} {moved} from {other.baseline:.3f} to {result.mean:.3f} ({test}); {counts}"


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


def _differences(
    mine: Mapping[str, Column], theirs: Mapping[str, Column], groups: Sequence[str], seed: int
) -> dict[str, Difference]:
    gaps: dict[str, Column] = {}
    baselines: dict[str, float] = {}
    for name in [name for name in mine if name in theirs]:
        both = zip(mine[name], theirs[name], strict=True)
        pairs = [None if a is None or b is None else (a, b) for a, b in both]
        if any(pairs):
            gaps[name] = [None if pair is None else pair[0] - pair[1] for pair in pairs]
            baselines[name] = mean(pair[1] for pair in pairs if pair is not None)
    intervals = _intervals(gaps, groups, seed)
    ps = _resampled(gaps, groups, partial(sign_flip_ps, seed=seed, samples=FLIPS))
    family = [name for name in gaps if not is_bound(name)]
    adjusted = dict(zip(family, holm([ps[name] for name in family]), strict=True))
    found = {}
    for name, gap in gaps.items():
        gains = [x if higher_is_better(name) else -x for x in gap if x is not None]
        found[name] = Difference(
            baseline=baselines[name],
            difference=mean(gap),
            interval=intervals[name],
            p=ps[name],
            p_holm=adjusted.get(name),
            better=sum(gain > 0 for gain in gains),
            worse=sum(gain < 0 for gain in gains),
        )
    return found


def _count(column: Column) -> int:
    return sum(value is not None for value in column)


def _intervals(
    columns: Mapping[str, Column], groups: Sequence[str], seed: int
) -> dict[str, Interval | None]:
    def intervals(values: Values, clusters: Sequence[str]) -> Sequence[Interval | None]:
        if len(set(clusters)) < 2:
            return [None] * len(values)
        return bootstrap_intervals(values, clusters, seed=seed, samples=SAMPLES, level=LEVEL)

    return _resampled(columns, groups, intervals)


def _resampled(
    columns: Mapping[str, Column],
    groups: Sequence[str],
    statistic: Callable[[Values, Sequence[str]], Sequence[T]],
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
        found |= zip(names, statistic(values, clusters), strict=True)
    return found


def _range(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else "unknown"


def _queries(count: int) -> str:
    return "1 query" if count == 1 else f"{count} queries"
