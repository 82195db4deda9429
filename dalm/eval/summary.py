"""Summarise an evaluation: the content of results.json, tables and sentences on the terminal."""

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalm import display, distributed
from dalm.config import EvalRetriever, public
from dalm.display import cell, show
from dalm.eval.comparison import ALPHA, FLIPS, LEVEL, POWER, MeasureResult
from dalm.eval.judge.verdicts import judge_summary
from dalm.eval.metrics import BOUNDS, FOUND, STAGES, is_variant, label
from dalm.eval.quality_gates import Gate
from dalm.eval.results import Results
from dalm.eval.sentences import counted, sentence
from dalm.eval.significance import Interval
from dalm.io.evaluation_set import EvaluationSet
from dalm.progress import Stopwatch
from dalm.redaction import redacted

PACKAGES = ("indomain", "torch", "transformers", "sentence-transformers", "ir-measures")
PRINTED_SENTENCES = 3
"""Sentences on the terminal; the report has all of them."""
STAGE_MEASURES = 5
"""Measures in the table of stages."""
STARS = {"better": "*", "worse": "*", "even": ""}
COLOURS = {"better": "green", "worse": "red", "even": ""}


def summary(
    measures: Sequence[MeasureResult],
    baseline: Results | None,
    gates: Sequence[Gate],
    findings: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Return what results.json holds of the measures, and how their intervals were computed."""
    return {
        "baseline": baseline.name if baseline else None,
        "level": LEVEL,
        "alpha": ALPHA,
        "power": POWER,
        "sign_flips": FLIPS,
        "seed": seed,
        "findings": list(findings),
        "measures": [
            {"words": label(each.measure), **asdict(each), "verdict": each.verdict}
            for each in measures
        ],
        "gates": [asdict(gate) for gate in gates],
    }


def run_facts(dataset: EvaluationSet, config: EvalRetriever, watch: Stopwatch) -> dict[str, Any]:
    """Return how the figures were made: command, data, settings, versions, seconds."""
    return {
        "command": typed_command(),
        "dataset": dataset.name,
        "passages": len(dataset.passages),
        "passages_added": dataset.added,
        "queries_unjudged": dataset.unjudged,
        "processes": distributed.world_size(),
        "settings": public(config),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "seconds": watch.seconds,
        "speed": watch.speed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def typed_command() -> str:
    """Return the command of this process as it was typed, to be typed again; keys are masked."""
    name = Path(sys.argv[0]).name
    program = ["python", "-m", "dalm"] if name == "__main__.py" else [name]
    return redacted(shlex.join([*program, *sys.argv[1:]]))


# On the terminal


def print_results(
    measures: Sequence[MeasureResult],
    results: Results,
    baseline: Results | None,
    findings: Sequence[str],
) -> None:
    """Print the tables, the first measures in sentences, and what else is worth knowing."""
    show()
    print_table(measures_table(measures, results.name, baseline.name if baseline else None))
    for table in (stages_table(measures), bounds_table(measures)):
        if table is not None:
            show()
            print_table(table)
    if baseline:
        show()
        compared = [each for each in measures if each.against and not is_variant(each.measure)]
        for each in compared[:PRINTED_SENTENCES]:
            show(sentence(each))
    if judged := list(judge_summary(results.facts.get("judge"))):
        show()
        show("\n".join(judged))
    if findings:
        show()
        show("\n".join(f"note: {each}" for each in findings))


def measures_table(
    results: Sequence[MeasureResult], name: str, baseline: str | None = None
) -> Table:
    """Return a table with a row per measure; with a baseline it is 80 characters wide.

    Its title says over how many queries and documents the intervals are.
    """
    headings = ["value", "95 %"]
    if baseline is not None:
        headings += ["baseline", "difference", "95 %", "p (Holm)"]
    title = f"{name} against {baseline}" if baseline else name
    table = _table((title, interval_units(results)), headings)
    for result in results:
        if is_variant(result.measure):
            continue
        cells = [label(result.measure), f"{result.mean:.3f}", _ends(result.interval)]
        if result.against:
            other = result.against
            change = f"{other.difference:+.3f}", _ends(other.interval, "+")
            cells += [f"{other.baseline:.3f}", *change, p_value(other.p_holm)]
        table.add_row(*(cell(each, COLOURS[result.verdict]) for each in cells))
    return table


def interval_units(results: Sequence[MeasureResult]) -> str:
    """Return over how many queries and documents the values and differences of a table are.

    A difference is over those for which both systems have a value.
    """
    over, compared = dict[str, list[str]](), dict[str, list[str]]()
    for result in results:
        if is_variant(result.measure):
            continue
        over.setdefault(counted(result), []).append(label(result.measure))
        if result.against and result.against.count != result.count:
            compared.setdefault(counted(result.against), []).append(label(result.measure))
    text = f"95 % intervals over {_units(over)}"
    for units, names in compared.items():
        text += f"; baseline and difference of {', '.join(names)} over {units}"
    return text


def _units(over: Mapping[str, Sequence[str]]) -> str:
    """Return the first units, and with others what they are of."""
    first, *others = over.items()
    return first[0] + "".join(f"; {', '.join(names)} over {units}" for units, names in others)


def by_context(results: Sequence[MeasureResult]) -> dict[str, list[MeasureResult | None]]:
    """Return the measures with bounds: from the passages found, then each of `BOUNDS`."""
    known = {result.measure: result for result in results}
    rows = {name: [known.get(f"{name}[{bound}]") for bound in BOUNDS] for name in known}
    return {name: [known[name], *row] for name, row in rows.items() if any(row)}


def context_units(rows: Mapping[str, Sequence[MeasureResult | None]]) -> str:
    """Return over how many queries and documents the answers of `by_context` are measured.

    Only queries with a gold passage have an answer from it.
    """
    over: dict[str, list[str]] = {}
    for place, context in enumerate((FOUND, *BOUNDS.values())):
        of_context: dict[str, list[str]] = {}
        for name, row in rows.items():
            if (each := row[place]) is not None:
                of_context.setdefault(counted(each), []).append(label(name))
        for order, (units, names) in enumerate(of_context.items()):
            what = f"{', '.join(names)} with {context}" if order else context
            over.setdefault(units, []).append(what)
    return _units(over)


def bounds_table(results: Sequence[MeasureResult]) -> Table | None:
    """Return a table of the answers' measures by what the generator read; None without bounds."""
    rows = by_context(results)
    if not rows:
        return None
    title = f"answers by passages read, {context_units(rows)}"
    table = _table((title,), (FOUND, *BOUNDS.values()))
    for name, row in rows.items():
        table.add_row(cell(label(name)), *(f"{each.mean:.3f}" if each else "" for each in row))
    return table


@dataclass(frozen=True, slots=True)
class StageRow:
    """The first measures of one stage of the search, with the verdicts against the baseline."""

    name: str
    values: list[float]
    verdicts: list[str]
    evaluated: bool
    """Whether it is of the evaluated system: neither the baseline nor BM25."""


def by_stage(results: Sequence[MeasureResult]) -> tuple[list[str], list[StageRow]]:
    """Return measures and rows of the table of stages: BM25, then baseline and system in each.

    There are no rows if the retriever's own ranking is all that was measured.
    """
    known = {result.measure: result for result in results}
    names = [
        name for name in known if any(f"{name}[{stage}]" in known for stage in STAGES if stage)
    ][:STAGE_MEASURES]
    rows = []
    for stage, words in STAGES.items():
        found = [known.get(f"{name}[{stage}]" if stage else name) for name in names]
        row = [each for each in found if each]
        baseline = [each.against.baseline for each in row if each.against and stage != "BM25"]
        if baseline:
            rows.append(StageRow(f"{words}, baseline", baseline, ["even"] * len(baseline), False))
        if row:
            verdicts = [each.verdict for each in row]
            rows.append(StageRow(words, [e.mean for e in row], verdicts, stage != "BM25"))
    return names, rows


def stages_table(results: Sequence[MeasureResult]) -> Table | None:
    """Return the table of the stages of the search; None if there is one stage."""
    names, rows = by_stage(results)
    if not rows:
        return None
    compared = any(row.name.endswith("baseline") for row in rows)
    title = "by stage of the search" + "; * differs significantly from the baseline" * compared
    table = _table((title,), [label(name) for name in names], first="")
    for row in rows:
        cells = zip(row.values, row.verdicts, strict=True)
        texts = [cell(f"{STARS[verdict]}{value:.3f}", COLOURS[verdict]) for value, verdict in cells]
        table.add_row(cell(row.name), *texts)
    return table


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table; plain text if it isn't printed on a terminal.

    It is as wide as it needs to be, at most 80 characters for usual names and values: a narrower
    terminal wraps the lines, and no number is cut or folded.
    """
    console = console or display.console()
    table.width = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.print(table, soft_wrap=True)


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _table(titles: Sequence[str], headings: Sequence[str], first: str = "measure") -> Table:
    title = Text("\n").join(map(cell, titles))
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _ends(interval: Interval | None, sign: str = "") -> str:
    return f"{interval.low:{sign}.3f}..{interval.high:{sign}.3f}" if interval else ""
