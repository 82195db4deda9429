"""Compute the data of the report's charts: recall over k, ranks, training curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from dalm.eval.comparison import LEVEL, SAMPLES
from dalm.eval.results import Results
from dalm.eval.significance import Interval, bootstrap_intervals
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


def recall_over_k(results: Results, depth: int, *, seed: int | None = None) -> Curve:
    """Return mean recall@k for k ≤ `depth`; with a seed, also its interval at each k.

    Queries without a relevant passage are left out, as they are of `R@k`.
    """
    depths = [k for k in DEPTHS if k < depth] + [depth]
    judged = [i for i, query in enumerate(results.queries) if query.gold]
    if not judged or not depth:
        return Curve(results.name, [], [])
    rows = [_recalls(results, i, depths) for i in judged]
    columns = list(zip(*rows, strict=True))
    groups = [results.groups[i] for i in judged]
    band: Sequence[Interval] = ()
    if seed is not None and len(set(groups)) > 1:
        band = bootstrap_intervals(columns, groups, seed=seed, samples=SAMPLES, level=LEVEL)
    return Curve(results.name, depths, [sum(column) / len(rows) for column in columns], band)


def _recalls(results: Results, query: int, depths: Sequence[int]) -> list[float]:
    relevant = set(results.queries[query].gold)
    ranking = results.rankings[query]
    found = [0, *accumulate(hit.passage.id in relevant for hit in ranking)]
    return [found[min(k, len(ranking))] / len(relevant) for k in depths]


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

    `RUN_FIGURES` and learning rates are left out.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    wanted = [
        name for name in names if name not in RUN_FIGURES and not name.endswith(LEARNING_RATE)
    ]
    curves = []
    for name in sorted(wanted, key=lambda name: name != "loss"):
        known = [(line["step"], line[name]) for line in lines if _is_number(line.get(name))]
        steps, values = zip(*known, strict=True) if known else ((), ())
        if len(set(values)) > 1:
            curves.append(Curve(name, steps, values))
    return curves[:MOST_CURVES]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
