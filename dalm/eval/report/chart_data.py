"""Rankings in; the numbers behind the page's pictures out."""

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
"""Where recall over k is taken, as far as the ranking goes."""
BORDERS = (0, 1, 2, 3, 5, 10, 20, 50, 100)
DEEP_BORDERS = (0, 1, 3, 10, 30, 100, 300, 1000)
"""Ranks are counted together beyond one border up to the next; these for longer rankings."""
NOT_FOUND = "none"
LEARNING_RATE = "learning_rate"
QUIET = {*CLOCK, "step", "epoch", "grad_norm", "padding", "prompt_tokens"}
"""What a line of metrics.jsonl says of the run rather than of the model."""
CURVES = 12


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a named line; with a band, its ends at each point."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    band: Sequence[Interval] = ()


def depth_of(systems: Sequence[Results]) -> int:
    """Return the number of passages in the longest ranking of all systems."""
    return max((len(hits) for results in systems for hits in results.hits), default=0)


def recall_over_k(results: Results, depth: int, *, seed: int | None = None) -> Curve:
    """Return mean recall@k over k ≤ `depth`; with a seed, with its interval at each k.

    Queries that nothing is relevant to are left out, as they are of `R@k`.
    """
    depths = [k for k in DEPTHS if k < depth] + [depth]
    judged = [place for place, query in enumerate(results.queries) if query.gold]
    if not judged or not depth:
        return Curve(results.name, [], [])
    rows = [_recalls(results, place, depths) for place in judged]
    columns = list(zip(*rows, strict=True))
    groups = [results.groups[place] for place in judged]
    band: Sequence[Interval] = ()
    if seed is not None and len(set(groups)) > 1:
        band = bootstrap_intervals(columns, groups, seed=seed, samples=SAMPLES, level=LEVEL)
    return Curve(results.name, depths, [sum(column) / len(rows) for column in columns], band)


def _recalls(results: Results, place: int, depths: Sequence[int]) -> list[float]:
    relevant = set(results.queries[place].gold)
    ranking = results.rankings[place]
    found = [0, *accumulate(hit.passage.id in relevant for hit in ranking)]
    return [found[min(k, len(ranking))] / len(relevant) for k in depths]


def rank_shares(results: Results, depth: int) -> dict[str, float]:
    """Return the share of queries whose first relevant passage stands at each rank, or at none."""
    ranks = [results.rank(place) for place, query in enumerate(results.queries) if query.gold]
    wanted = BORDERS if depth <= BORDERS[-1] else DEEP_BORDERS
    borders = [border for border in wanted if border < depth] + [depth]
    shares = {}
    for low, high in pairwise(borders):
        name = str(high) if high == low + 1 else f"{low + 1}–{high}"
        shares[name] = sum(rank is not None and low < rank <= high for rank in ranks)
    shares[NOT_FOUND] = ranks.count(None)
    return {name: count / max(1, len(ranks)) for name, count in shares.items()}


def training_curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Return a curve for each figure of a run's log that moved, the loss first.

    `QUIET` ones and learning rates are left out.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    wanted = [name for name in names if name not in QUIET and not name.endswith(LEARNING_RATE)]
    curves = []
    for name in sorted(wanted, key=lambda name: name != "loss"):
        known = [(line["step"], line[name]) for line in lines if _is_number(line.get(name))]
        steps, values = zip(*known, strict=True) if known else ((), ())
        if len(set(values)) > 1:
            curves.append(Curve(name, steps, values))
    return curves[:CURVES]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
