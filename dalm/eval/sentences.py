"""Say in sentences what was measured, over how many queries and documents, and what it shows."""

from dalm.eval.comparison import ALPHA, Difference, MeasureResult
from dalm.eval.metrics import label
from dalm.eval.significance import Interval


def counted(result: MeasureResult | Difference) -> str:
    """Return over what a figure is: `138 queries of 36 documents`.

    Without documents the queries count for themselves: `200 queries`.
    """
    queries = number(result.count, "query", "queries")
    if result.documents is None:
        return queries
    return f"{queries} of {number(result.documents, 'document', 'documents')}"


def sentence(result: MeasureResult) -> str:
    """Return a measure in words: its change from the baseline, whether significant, over what."""
    name, other = label(result.measure), result.against
    if other is None:
        ends = f" (95 % interval {_range(result.interval)})" if result.interval else ""
        return f"{name} is {result.mean:.3f}{ends} over {counted(result)}"
    mean = f"{result.compared_mean:.3f}"
    if not other.better and not other.worse:
        return f"{name} is {mean} for both systems on every query ({counted(other)})"
    ends = f"95 % interval of the difference {_range(other.interval)}, " if other.interval else ""
    test = f"({ends}{p_value(other)})"
    counts = f"better on {other.better}, worse on {other.worse} of {counted(other)}"
    if result.verdict != "even":
        moved = "rose" if other.difference > 0 else "fell"
        return f"{name} {moved} from {other.baseline:.3f} to {mean} {test}; {counts}"
    only_raw = other.p <= ALPHA < (other.p_holm or 0)
    adjusted = " once adjusted for the number of measures" if only_raw else ""
    return (
        f"{name} is {mean}, baseline {other.baseline:.3f}, not statistically "
        f"significant{adjusted} {test}; {counts}{power(other)}"
    )


def p_value(other: Difference) -> str:
    """Return the p-value of a difference in words, adjusted if it is one of several."""
    p, kind = (other.p, "p") if other.p_holm is None else (other.p_holm, "adjusted p")
    return f"{kind} {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def power(other: Difference) -> str:
    """Return what so many queries and documents could have shown, as the end of a sentence."""
    if other.least_p > ALPHA:
        return f", too few to show any difference (p is at least {other.least_p:.3g})"
    if other.detectable is None:
        return ""
    return f", which could have shown a difference of {other.detectable:.3f}"


def _range(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else "unknown"


def number(count: int, one: str, several: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else several}"
