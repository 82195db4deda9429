"""Measured systems in; run folders, the table, the sentences, the page and the gates out."""

import json
import logging
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalm import distributed
from dalm.config import EvalRetriever, public
from dalm.eval.comparison import (
    BOUNDS,
    FLIPS,
    LEVEL,
    SAMPLES,
    Line,
    compare,
    is_bound,
    sentence,
    spoken,
)
from dalm.eval.judge.verdicts import judge_summary
from dalm.eval.metrics import in_words
from dalm.eval.quality_gates import (
    Gate,
    GateError,
    guard_gate,
    regression_gate,
    threshold_gates,
    thresholds_of,
)
from dalm.eval.results import BASELINE, Results, save
from dalm.eval.significance import Interval
from dalm.eval.timing import Stopwatch
from dalm.io.evaluation_set import EvaluationSet

logger = logging.getLogger(__name__)

PACKAGES = ("indomain", "torch", "transformers", "sentence-transformers", "ir-measures")
SAID = 3
"""Sentences on the terminal; the page has all of them."""


def finish(
    folder: Path,
    settings: EvalRetriever,
    *,
    sets: Sequence[EvaluationSet],
    systems: Sequence[Results],
    baselines: Sequence[Results],
    watch: Stopwatch,
) -> None:
    """Write and show what came out; `systems` and `baselines` are the dataset's and the guard's.

    Raises:
        GateError: a gate that was asked for doesn't hold. Everything is written nevertheless.
    """
    if not distributed.is_main():
        return
    facts = _facts(sets[0], settings, watch)
    results, *others = (
        replace(each, facts={**facts, **each.facts}) for each in (*systems[:1], *baselines[:1])
    )
    baseline = others[0] if others else None
    lines = compare(results, baseline, seed=settings.seed)
    gates = _gates(lines, sets, systems, baselines, settings)
    save(folder, results, summary(lines, baseline, gates, settings.seed))
    written = [("run", folder)]
    if baseline:
        alone = compare(baseline, seed=settings.seed)
        save(folder / BASELINE, baseline, summary(alone, None, (), settings.seed))
    if settings.report:
        from dalm.eval.report.page import Report, write_page

        training = training_of((settings.retriever_name_or_path, _generator(settings)))
        page = Report(
            systems=[results], lines=[lines], baseline=baseline, gates=gates, training=training
        )
        write_page(Path(settings.report), page)
        written.append(("report", Path(settings.report)))
    tell(lines, results, baseline)
    logger.info("time       %s", watch)
    for word, path in written:
        logger.info("%-10s %s", word, path)
    settle(gates)


def tell(lines: Sequence[Line], results: Results, baseline: Results | None) -> None:
    """Print the tables, and the first measures in words."""
    print()
    show(table(lines, results.name, baseline.name if baseline else None))
    if (bounds := bounds_table(lines)) is not None:
        print()
        show(bounds)
    if baseline:
        print()
        for line in [line for line in lines if line.against and not is_bound(line.measure)][:SAID]:
            print(sentence(line))
    if judged := list(judge_summary(results.facts.get("judge"))):
        print()
        print("\n".join(judged))


def settle(gates: Sequence[Gate]) -> None:
    """Say what holds and what doesn't.

    Raises:
        GateError: something doesn't.
    """
    for gate in gates:
        logger.info("%-10s %s", "passed" if gate.passed else "FAILED", gate.text)
    failed = [gate for gate in gates if not gate.passed]
    if any(gate.decides for gate in failed):
        raise GateError(f"{len(failed)} of {len(gates)} gates failed")


def summary(
    lines: Sequence[Line], baseline: Results | None, gates: Sequence[Gate], seed: int
) -> dict[str, Any]:
    """Return what results.json says of the figures and how they were made."""
    return {
        "baseline": baseline.name if baseline else None,
        "level": LEVEL,
        "bootstrap_samples": SAMPLES,
        "sign_flips": FLIPS,
        "seed": seed,
        "measures": [
            {"words": spoken(line.measure), **asdict(line), "verdict": line.verdict}
            for line in lines
        ],
        "gates": [asdict(gate) for gate in gates],
    }


def training_of(models: Sequence[str | None]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the logs of the runs that made the models, as far as they lie beside them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for model in models:
        for folder in (Path(model), Path(model).parent) if model and Path(model).is_dir() else ():
            file = folder / "metrics.jsonl"
            if file.is_file() and str(folder) not in found:
                found[str(folder)] = [json.loads(line) for line in file.read_text().splitlines()]
    return found


def _generator(settings: EvalRetriever) -> str | None:
    return getattr(settings, "generator_name_or_path", None)


def _gates(
    lines: Sequence[Line],
    sets: Sequence[EvaluationSet],
    systems: Sequence[Results],
    baselines: Sequence[Results],
    settings: EvalRetriever,
) -> list[Gate]:
    gates = threshold_gates(lines, thresholds_of(settings.fail_below))
    decides = settings.fail_on_regression
    if decides:
        gates.append(regression_gate(lines))
    for asked, system, baseline in zip(sets[1:], systems[1:], baselines[1:], strict=False):
        guarded = compare(system, baseline, seed=settings.seed)
        for line in guarded:
            if line.against and (line is guarded[0] or line.measure == "F1"):
                gate = guard_gate(line, asked.name, settings.guard_margin)
                gates.append(replace(gate, decides=decides))
    return gates


def _facts(asked: EvaluationSet, settings: EvalRetriever, watch: Stopwatch) -> dict[str, Any]:
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        "command": shlex.join(words),
        "dataset": asked.name,
        "passages": len(asked.passages),
        "queries_unjudged": asked.unjudged,
        "index": settings.index,
        "processes": distributed.world_size(),
        "settings": public(settings),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "seconds": watch.seconds,
        "speed": watch.speed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


# FOLDED shown.py: Lines of a comparison in, a table on the terminal out.

COLOURS = {"better": "green", "worse": "red", "even": ""}


def table(lines: Sequence[Line], name: str, baseline: str | None = None) -> Table:
    """Return a table for the terminal: a row per measure; with a baseline 80 characters wide."""
    made = _table(f"{name} against {baseline}" if baseline else name)
    made.add_column("measure")
    headings = ["value", "95 %"]
    if baseline is not None:
        headings += ["baseline", "difference", "95 %", "p (Holm)"]
    for heading in headings:
        made.add_column(heading, justify="right")
    for line in lines:
        if is_bound(line.measure):
            continue
        cells = [spoken(line.measure), f"{line.mean:.3f}", _ends(line.interval)]
        if line.against:
            other = line.against
            change = f"{other.difference:+.3f}", _ends(other.interval, "+")
            cells += [f"{other.baseline:.3f}", *change, p_value(other.p_holm)]
        made.add_row(*(Text(cell, style=COLOURS[line.verdict]) for cell in cells))
    return made


def bounds_table(lines: Sequence[Line]) -> Table | None:
    """Return the answers' measures by what was read: found passages, then the bounds."""
    means = {line.measure: line.mean for line in lines}
    names = [name for name in means if f"{name}[gold]" in means or f"{name}[none]" in means]
    if not names:
        return None
    made = _table("answers by what was read")
    made.add_column("measure")
    for heading in ("found passages", *BOUNDS.values()):
        made.add_column(heading, justify="right")
    for name in names:
        values = [means.get(key) for key in (name, *(f"{name}[{bound}]" for bound in BOUNDS))]
        made.add_row(in_words(name), *("" if v is None else f"{v:.3f}" for v in values))
    return made


def show(made: Table, console: Console | None = None) -> None:
    """Print a table, in plain text away from a terminal.

    It has the width that it needs, at most 80 characters for usual names and values: a narrower
    terminal wraps the lines, and no number is cut or folded.
    """
    console = console or Console()
    made.width = console.measure(made, options=console.options.update(max_width=1000)).maximum
    console.print(made, soft_wrap=True)


def p_value(p: float | None) -> str:
    """Return a p-value with three places."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", box=None, pad_edge=False)


def _ends(interval: Interval | None, sign: str = "") -> str:
    return f"{interval.low:{sign}.3f}..{interval.high:{sign}.3f}" if interval else ""
