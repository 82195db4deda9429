"""Compute and draw the report's charts, as SVG: recall over k, ranks, intervals, training curves.

Colours are classes of the style sheet; `s0` is the baseline's.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from markupsafe import Markup, escape

from dalm.eval.comparison import LEVEL, MeasureResult
from dalm.eval.results import Results
from dalm.eval.significance import Interval, mean_intervals
from dalm.training.metrics_log import CLOCK

DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
"""Values of k at which recall is computed, up to the length of the ranking."""
BORDERS = (0, 1, 2, 3, 5, 10, 20, 50, 100)
DEEP_BORDERS = (0, 1, 3, 10, 30, 100, 300, 1000)
"""Upper ends of the bins of ranks; `DEEP_BORDERS` for rankings longer than `BORDERS`."""
NOT_FOUND = "none"
LEARNING_RATE = "learning_rate"
RUN_FIGURES = {*CLOCK, "step", "epoch", "grad_norm", "padding", "prompt_tokens"}
"""Fields of metrics.jsonl that describe the run rather than the model."""
MOST_CURVES = 12
FEW_POINTS = 40
"""A curve of up to so many points shows each of them."""
SAME = 1e-5
"""Relative difference of two figures of the log that are one: sums in another order."""
COLOURS = 6
"""Number of distinct colours, the baseline's included; further systems reuse them."""
WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 34
SMALL_WIDTH, SMALL_HEIGHT = 260, 150
STEPS = (1.0, 2.0, 5.0, 10.0)
"""Distances of ticks, times a power of ten."""
TOLERANCE = 1e-9


# Data


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a named line, and optionally the ends of a confidence band at each point."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    band: Sequence[Interval] = ()


def depth_of(systems: Sequence[Results]) -> int:
    """Return the number of passages in the longest ranking of all systems."""
    return max((len(hits) for results in systems for hits in results.hits), default=0)


def recall_over_k(results: Results, depth: int, *, with_band: bool = False) -> Curve:
    """Return mean recall@k for k ≤ `depth`; `with_band` also its interval at each k.

    Queries without a relevant passage are left out, as they are of `R@k`.
    """
    depths = [k for k in DEPTHS if k < depth] + [depth]
    judged = [i for i, query in enumerate(results.queries) if query.gold]
    if not judged or not depth:
        return Curve(results.name, [], [])
    rows = []
    for i in judged:
        relevant, ranking = set(results.queries[i].gold), results.rankings[i]
        found = [0, *accumulate(hit.passage.id in relevant for hit in ranking)]
        rows.append([found[min(k, len(ranking))] / len(relevant) for k in depths])
    columns = list(zip(*rows, strict=True))
    groups = [results.groups[i] for i in judged]
    band: Sequence[Interval] = ()
    if with_band and len(set(groups)) > 1:
        band = mean_intervals(columns, groups, bounded=[True] * len(columns), level=LEVEL)
    return Curve(results.name, depths, [sum(column) / len(rows) for column in columns], band)


def rank_fractions(results: Results, depth: int) -> dict[str, float]:
    """Return the fraction of queries by the rank of their first relevant passage, binned."""
    ranks = [results.rank(i) for i, query in enumerate(results.queries) if query.gold]
    wanted = BORDERS if depth <= BORDERS[-1] else DEEP_BORDERS
    borders = [border for border in wanted if border < depth] + [depth]
    fractions = {}
    for low, high in pairwise(borders):
        name = str(high) if high == low + 1 else f"{low + 1}–{high}"
        fractions[name] = sum(rank is not None and low < rank <= high for rank in ranks)
    fractions[NOT_FOUND] = ranks.count(None)
    return {name: count / max(1, len(ranks)) for name, count in fractions.items()}


def training_curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Return a curve for each logged figure that isn't constant, the loss first.

    `RUN_FIGURES` and learning rates are left out, and what equals an earlier curve: a loss that is
    its only part is drawn once.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    wanted = [
        name for name in names if name not in RUN_FIGURES and not name.endswith(LEARNING_RATE)
    ]
    curves: list[Curve] = []
    for name in sorted(wanted, key=lambda name: name != "loss"):
        known = [(line["step"], line[name]) for line in lines if _is_number(line.get(name))]
        steps, values = zip(*known, strict=True) if known else ((), ())
        if len(set(values)) > 1 and not any(_same(each, steps, values) for each in curves):
            curves.append(Curve(name, steps, values))
    return curves[:MOST_CURVES]


def _same(curve: Curve, steps: Sequence[float], values: Sequence[float]) -> bool:
    pairs = zip(curve.ys, values, strict=False)
    return curve.xs == steps and all(math.isclose(a, b, rel_tol=SAME) for a, b in pairs)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e300


# Axes


@dataclass(frozen=True, slots=True)
class Axis:
    """Map values from `low` to `high`, above 0 if `log`, to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        fraction = (at - low) / (high - low) if high > low else 0.5
        return self.start + fraction * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values on the axis: three to six, or 1, 2, 5, 10, 20 … on a logarithmic one."""
        span = self.high - self.low
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [step * 10.0**power for power in powers for step in STEPS[:3]]
        elif not span > 0:
            return [self.low]
        else:
            power = 10.0 ** math.floor(math.log10(span / 5))
            least = span / 5 * (1 - TOLERANCE)
            distance = next(step * power for step in STEPS if step * power >= least)
            first, last = math.floor(self.low / distance), math.ceil(self.high / distance)
            found = [i * distance for i in range(first, last + 1)]
        tolerance = TOLERANCE * (span or 1.0)
        return [tick for tick in found if self.low - tolerance <= tick <= self.high + tolerance]


def tick_label(tick: float) -> str:
    """Format a tick's value in as few characters as possible."""
    if tick and not 1e-3 <= abs(tick) < 1e6:
        return f"{tick:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{tick:.6g}"


# Charts


def colour(index: int) -> str:
    """Return the style class of the system at this position; 0 is the baseline."""
    return "s0" if index == 0 else f"s{(index - 1) % (COLOURS - 1) + 1}"


def recall_chart(curves: Sequence[tuple[int, Curve]]) -> Markup:
    """Draw recall over k; each curve comes with the position of its system."""
    deepest = max(max(curve.xs) for _, curve in curves)
    x = Axis(1, max(2, deepest), LEFT, WIDTH - RIGHT, log=True)
    y = Axis(0, 1, HEIGHT - BOTTOM, TOP)
    marks = [_frame(x, y, "k")]
    for index, curve in curves:
        if curve.band:
            upper = _points(x, y, curve.xs, [ends.high for ends in curve.band])
            lower = _points(x, y, curve.xs[::-1], [ends.low for ends in curve.band[::-1]])
            marks.append(f'<polygon class="band {colour(index)}" points="{upper} {lower}"/>')
    for index, curve in curves:
        marks.append(_line(x, y, curve, index, dots=True))
    return _svg(WIDTH, HEIGHT, "Recall over k", marks)


def rank_chart(systems: Sequence[tuple[int, Mapping[str, float]]], depth: int) -> Markup:
    """Draw bars of the fraction of queries by the rank of their first relevant passage."""
    bins = list(systems[0][1])
    highest = max(max(fractions.values()) for _, fractions in systems)
    # Up to the next tenth, so that the highest bar ends below the frame.
    y = Axis(0, min(1.0, (int(highest * 10) + 1) / 10), HEIGHT - BOTTOM, TOP)
    width = (WIDTH - RIGHT - LEFT) / len(bins)
    bar = width * 0.76 / len(systems)
    marks = [*_rows(y, WIDTH, "%")]
    for column, name in enumerate(bins):
        left = LEFT + width * column
        middle = left + width / 2
        marks.append(f'<text class="x" x="{middle:.1f}" y="{HEIGHT - 18}">{escape(name)}</text>')
        for i, (index, fractions) in enumerate(systems):
            top = y(fractions[name])
            title = escape(f"{name}: {fractions[name]:.1%}")
            marks.append(
                f'<rect class="bar {colour(index)}" x="{left + width * 0.12 + i * bar:.1f}" '
                f'y="{top:.1f}" width="{max(1, bar - 1):.1f}" height="{y(0) - top:.1f}">'
                f"<title>{title}</title></rect>"
            )
    middle = (LEFT + WIDTH - RIGHT) / 2
    marks.append(
        f'<text class="x" x="{middle}" y="{HEIGHT - 3}">rank ({NOT_FOUND}: not in {depth})</text>'
    )
    return _svg(WIDTH, HEIGHT, "Rank of the first relevant passage", marks)


def training_chart(curve: Curve) -> Markup:
    """Draw one figure of a training log over the optimizer updates."""
    low, high = min(curve.ys), max(curve.ys)
    x = Axis(min(curve.xs), max(curve.xs), LEFT, SMALL_WIDTH - RIGHT)
    y = Axis(low, high, SMALL_HEIGHT - BOTTOM, TOP)
    line = _line(x, y, curve, 1, dots=len(curve.xs) <= FEW_POINTS)
    marks = [_frame(x, y, "update", SMALL_WIDTH, SMALL_HEIGHT), line]
    return _svg(SMALL_WIDTH, SMALL_HEIGHT, curve.name, marks)


def interval_chart(result: MeasureResult, highest: float) -> Markup:
    """Draw a measure's mean and interval on an axis from 0, and the baseline's mean in grey."""
    x = Axis(0, highest, 4, 156)
    marks = ['<line class="grid" x1="4" x2="156" y1="11" y2="11"/>']
    if result.against:
        at = x(result.against.baseline)
        marks.append(f'<line class="was s0" x1="{at:.1f}" x2="{at:.1f}" y1="3" y2="19"/>')
    if result.interval:
        low, high = x(result.interval.low), x(result.interval.high)
        marks.append(f'<line class="span s1" x1="{low:.1f}" x2="{high:.1f}" y1="11" y2="11"/>')
    marks.append(f'<circle class="dot s1" cx="{x(result.mean):.1f}" cy="11" r="3"/>')
    return _svg(160, 22, f"{result.mean:.3f}", marks)


def value_chart(value: float, index: int) -> Markup:
    """Draw a value between 0 and 1 as a bar in the colour of the system at this position."""
    bar = f'<rect class="bar {colour(index)}" x="4" y="5" width="{152 * value:.1f}" height="12"/>'
    return _svg(160, 22, f"{value:.3f}", [bar])


def axis_ends(results: Sequence[MeasureResult]) -> dict[str, float]:
    """Return the end of each measure's axis: 1, or beyond all values for those above 1, as NLL."""
    unbounded = [each for each in results if each.mean > 1]
    ends = [each.interval.high if each.interval else each.mean for each in unbounded]
    ends += [each.against.baseline for each in unbounded if each.against]
    end = max(ends, default=1.0) * 1.05
    return {each.measure: end if each in unbounded else 1.0 for each in results}


# Parts of a chart


def _svg(width: int, height: int, title: str, marks: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(marks)}</svg>"
    )


def _frame(x: Axis, y: Axis, name: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    marks = [*_rows(y, width, "")]
    for tick in x.ticks:
        at = f"{x(tick):.1f}"
        marks.append(f'<text class="x" x="{at}" y="{height - 18}">{tick_label(tick)}</text>')
    middle = (LEFT + width - RIGHT) / 2
    marks.append(f'<text class="x" x="{middle}" y="{height - 3}">{escape(name)}</text>')
    return "".join(marks)


def _rows(y: Axis, width: int, unit: str) -> Iterator[str]:
    for tick in y.ticks:
        at = f"{y(tick):.1f}"
        text = f"{tick:.0%}" if unit else tick_label(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{at}" y2="{at}"/>'
        yield f'<text class="y" x="{LEFT - 6}" y="{at}">{text}</text>'


def _line(x: Axis, y: Axis, curve: Curve, index: int, *, dots: bool = False) -> str:
    marks = [
        f'<polyline class="line {colour(index)}" points="{_points(x, y, curve.xs, curve.ys)}"/>'
    ]
    for at, value in zip(curve.xs, curve.ys, strict=True) if dots else ():
        title = f"{escape(curve.name)}: {value:.3f} at {tick_label(at)}"
        marks.append(
            f'<circle class="dot {colour(index)}" cx="{x(at):.1f}" cy="{y(value):.1f}" r="2.5">'
            f"<title>{title}</title></circle>"
        )
    return "".join(marks)


def _points(x: Axis, y: Axis, xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
