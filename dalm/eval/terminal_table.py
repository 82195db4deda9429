"""Print an evaluation's measures as tables on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalm.eval.comparison import MeasureResult
from dalm.eval.metrics import BOUNDS, FOUND, is_bound, label
from dalm.eval.significance import Interval

COLOURS = {"better": "green", "worse": "red", "even": ""}


def measures_table(
    results: Sequence[MeasureResult], name: str, baseline: str | None = None
) -> Table:
    """Return a table with a row per measure; with a baseline it is 80 characters wide."""
    table = _table(f"{name} against {baseline}" if baseline else name)
    headings = ["value", "95 %"]
    if baseline is not None:
        headings += ["baseline", "difference", "95 %", "p (Holm)"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for result in results:
        if is_bound(result.measure):
            continue
        cells = [label(result.measure), f"{result.mean:.3f}", _ends(result.interval)]
        if result.against:
            other = result.against
            change = f"{other.difference:+.3f}", _ends(other.interval, "+")
            cells += [f"{other.baseline:.3f}", *change, p_value(other.p_holm)]
        table.add_row(*(Text(cell, style=COLOURS[result.verdict]) for cell in cells))
    return table


def by_context(results: Sequence[MeasureResult]) -> dict[str, list[MeasureResult | None]]:
    """Return the measures with bounds: from the passages found, then each of `BOUNDS`."""
    known = {result.measure: result for result in results}
    rows = {name: [known.get(f"{name}[{bound}]") for bound in BOUNDS] for name in known}
    return {name: [known[name], *row] for name, row in rows.items() if any(row)}


def bounds_table(results: Sequence[MeasureResult]) -> Table | None:
    """Return a table of the answers' measures by what the generator read; None without bounds."""
    rows = by_context(results)
    if not rows:
        return None
    table = _table("answers by passages read")
    for heading in (FOUND, *BOUNDS.values()):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        table.add_row(label(name), *(f"{each.mean:.3f}" if each else "" for each in row))
    return table


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table; plain text if it isn't printed on a terminal.

    It is as wide as it needs to be, at most 80 characters for usual names and values: a narrower
    terminal wraps the lines, and no number is cut or folded.
    """
    console = console or Console()
    table.width = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.print(table, soft_wrap=True)


def p_value(p: float | None) -> str:
    """Return a p-value with three decimals."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _table(title: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    table.add_column("measure")
    return table


def _ends(interval: Interval | None, sign: str = "") -> str:
    return f"{interval.low:{sign}.3f}..{interval.high:{sign}.3f}" if interval else ""
