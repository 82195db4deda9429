"""Lines of a comparison in, a table on the terminal out."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalm.eval.comparison import BOUNDS, Line, is_bound, spoken
from dalm.eval.confidence import Interval
from dalm.eval.measures import in_words

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
