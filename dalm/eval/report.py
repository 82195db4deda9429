"""Measured queries in, a table on the terminal and two files out.

`results.json` holds the means with their intervals and the comparison with a baseline;
`queries.jsonl` holds a line per query, with all that is needed to see why it went well or wrong.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalm.errors import UserError
from dalm.eval.confidence import Interval, bootstrap_intervals, sign_flip_ps
from dalm.eval.measures import in_rank_order, in_words
from dalm.records import Hit, Passage

LEVEL, SAMPLES, FLIPS = 0.95, 2000, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A query with what is known about it and what the system made of it."""

    query: str
    gold: tuple[Passage, ...] = ()
    hits: tuple[Hit, ...] = ()
    answer: str | None = None
    references: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Results:
    """A system's values: for each measure one per query, in the order of `queries`.

    `clusters` names each query's document or gold passage, for the intervals.
    """

    name: str
    queries: Sequence[Judged]
    measures: dict[str, list[float]]
    clusters: Sequence[str] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what doesn't fit together."""
        columns = {"clusters": self.clusters, **self.measures}
        for name, column in columns.items():
            if len(column) != len(self.queries):
                raise ValueError(f"{name}: {len(column)} for {len(self.queries)} queries")
        if not self.queries:
            raise UserError("there are no queries to report on: the test set is empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A baseline's mean, and how far the system lies above it on the same queries."""

    mean: float
    difference: float
    interval: Interval | None
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measure's mean, its interval (none for a single cluster), and its comparison."""

    measure: str
    mean: float
    interval: Interval | None
    baseline: Comparison | None = None


def summarise(results: Results, baseline: Results | None = None, *, seed: int = 0) -> list[Line]:
    """Return a line per measure, with 95 % intervals clustered as `results.clusters`.

    With a baseline, measures that it has as well are compared query by query: a paired bootstrap
    interval of the difference, and the p of a sign-flip test. Nothing corrects p for the number of
    measures. Raises ValueError if the baseline's queries are others or in another order.
    """
    if baseline and [q.query for q in baseline.queries] != [q.query for q in results.queries]:
        raise ValueError(f"{baseline.name} answered other queries, or in another order")
    theirs = baseline.measures if baseline else {}
    columns = {name: np.asarray(column, dtype=float) for name, column in results.measures.items()}
    differences = {name: columns[name] - theirs[name] for name in columns if name in theirs}
    # One call, so that every interval rests on the same samples.
    intervals = _intervals([*columns.values(), *differences.values()], results.clusters, seed)
    ps = sign_flip_ps(list(differences.values()), results.clusters, seed=seed, samples=FLIPS)
    comparisons = {
        name: Comparison(
            mean=float(np.mean(theirs[name])),
            difference=float(difference.mean()),
            interval=interval,
            p=p,
        )
        for (name, difference), interval, p in zip(
            differences.items(), intervals[len(columns) :], ps, strict=True
        )
    }
    return [
        Line(
            measure=name,
            mean=float(column.mean()),
            interval=interval,
            baseline=comparisons.get(name),
        )
        for (name, column), interval in zip(columns.items(), intervals, strict=False)
    ]


def table(lines: Sequence[Line], name: str, baseline: str | None = None) -> Table:
    """Return a table for the terminal: a row per measure; with a baseline 80 characters wide."""
    title = f"{name} against {baseline}" if baseline else name
    made = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    made.add_column("measure")
    headings = ["value", "95 %"]
    if baseline is not None:
        headings += ["baseline", "difference", "95 %", "p"]
    for heading in headings:
        made.add_column(heading, justify="right")
    for line in lines:
        cells = [in_words(line.measure), f"{line.mean:.3f}", _ends(line.interval)]
        if line.baseline:
            other = line.baseline
            change = f"{other.difference:+.3f}", _ends(other.interval, "+")
            cells += [f"{other.mean:.3f}", *change, _p(other.p)]
        made.add_row(*map(Text, cells))
    return made


def show(
    lines: Sequence[Line], name: str, baseline: str | None = None, console: Console | None = None
) -> None:
    """Print the table, in plain text away from a terminal.

    It has the width that it needs, at most 80 characters for usual names and values: a narrower
    terminal wraps the lines, and no number is cut or folded.
    """
    console = console or Console()
    made = table(lines, name, baseline)
    made.width = console.measure(made, options=console.options.update(max_width=1000)).maximum
    console.print(made, soft_wrap=True)


def write(
    folder: Path, results: Results, baseline: Results | None = None, *, seed: int = 0
) -> list[Line]:
    """Write `results.json` and `queries.jsonl` to `folder` and return the lines for `show`."""
    lines = summarise(results, baseline, seed=seed)
    summary = {
        "name": results.name,
        "baseline": baseline.name if baseline else None,
        "queries": len(results.queries),
        "clusters": len(set(results.clusters)),
        "level": LEVEL,
        "bootstrap_samples": SAMPLES,
        "sign_flips": FLIPS,
        "seed": seed,
        "measures": [{"words": in_words(line.measure), **asdict(line)} for line in lines],
    }
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "queries.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for record in query_records(results):
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    text = json.dumps(summary, ensure_ascii=False, allow_nan=False, indent=2)
    (folder / "results.json").write_text(text + "\n", "utf-8")
    return lines


def query_records(results: Results) -> Iterable[dict[str, Any]]:
    """Yield a record per query; hits stand in the order in which they were measured."""
    for i, judged in enumerate(results.queries):
        hits = in_rank_order(judged.hits)
        gold = {passage.id for passage in judged.gold}
        ranks = (rank for rank, hit in enumerate(hits, start=1) if hit.passage.id in gold)
        yield {
            "query": judged.query,
            "gold": [{"id": passage.id, "text": passage.text} for passage in judged.gold],
            "rank": next(ranks, None),
            "hits": [{"id": hit.passage.id, "score": hit.score} for hit in hits],
            "answer": judged.answer,
            "references": list(judged.references),
            "measures": {name: column[i] for name, column in results.measures.items()},
            "cluster": results.clusters[i],
        }


def _intervals(
    columns: Sequence[np.ndarray[Any, Any]], clusters: Sequence[str], seed: int
) -> Sequence[Interval | None]:
    if len(set(clusters)) < 2:
        return [None] * len(columns)
    return bootstrap_intervals(columns, clusters, seed=seed, samples=SAMPLES, level=LEVEL)


def _ends(interval: Interval | None, sign: str = "") -> str:
    return f"{interval.low:{sign}.3f}..{interval.high:{sign}.3f}" if interval else ""


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
