"""Report files and rows that could not be read: in a table beside the passages, and in the log."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dalm import artifacts

logger = logging.getLogger(__name__)

LOGGED = 20  # skipped files named in the log; the table has all of them


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a row of one, that could not be read, and why."""

    source: str
    reason: str


def write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    """Write a tsv of sources and reasons; delete it when nothing was skipped."""
    if not skipped:
        path.unlink(missing_ok=True)
        return
    rows = (f"{_one_line(each.source)}\t{_one_line(each.reason)}\n" for each in skipped)
    artifacts.write_text(path, "source\treason\n" + "".join(rows))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def log_skipped(skipped: Sequence[Skipped], path: Path) -> None:
    """Log the first skipped files, the counts by reason, and where all of them are listed."""
    if not skipped:
        return
    for each in skipped[:LOGGED]:
        logger.warning("unread     %s: %s", each.source, each.reason)
    reasons = Counter(_short(each.reason) for each in skipped)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
    more = f", … ({len(reasons) - 5} other reasons)" if len(reasons) > 5 else ""
    logger.warning("unread     %d in all: %s%s; see %s", len(skipped), counts, more, path)


def _short(reason: str) -> str:
    """Return a reason without its line and remedy, so that equal ones are counted together."""
    line, _, rest = reason.partition(": ")
    without_line = rest if line.startswith("line ") and rest else reason
    return without_line.partition(";")[0].partition(" (")[0]
