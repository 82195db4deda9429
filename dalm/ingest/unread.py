"""List what could not be read: files, rows, and parts of documents."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dalm import artifacts
from dalm.display import visible
from dalm.errors import UserError
from dalm.ingest.loaders.loader import Document, Skipped

logger = logging.getLogger(__name__)

LOGGED = 20  # lines in the log; the table has all of them


def unread_parts(document: Document) -> list[Skipped]:
    """Return what of a document's file is not in its text, a reason each."""
    return [Skipped(document.source, reason, part=True) for reason in document.unread]


def write_unread(path: Path, unread: Sequence[Skipped]) -> None:
    """Write a tsv of sources and reasons; delete it when everything was read."""
    if not unread:
        path.unlink(missing_ok=True)
        return
    rows = (f"{visible(each.source)}\t{visible(each.reason)}\n" for each in unread)
    artifacts.write_text(path, "source\treason\n" + "".join(rows))


def log_unread(unread: Sequence[Skipped], path: Path) -> None:
    """Log the first lines, the counts by reason, and where all of them are listed."""
    if not unread:
        return
    for each in unread[:LOGGED]:
        logger.warning("unread     %s: %s", each.source, each.reason)
    reasons = Counter(_short(each.reason) for each in unread)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
    more = f", … ({len(reasons) - 5} other reasons)" if len(reasons) > 5 else ""
    logger.warning("unread     %d in all: %s%s; see %s", len(unread), counts, more, path)


def check_all_read(unread: Sequence[Skipped], path: Path) -> None:
    """Raise UserError, for --strict, if anything could not be read: exit code 2."""
    failed = [each for each in unread if not each.by_option]
    if failed:
        first = failed[0]
        raise UserError(
            f"--strict: not all could be read: {first.source}: {first.reason}; {len(failed)} in "
            f"all are in {path}, and what could be read is written"
        )


def _short(reason: str) -> str:
    """Return a reason without its line and remedy, so that equal ones are counted together."""
    line, _, rest = reason.partition(": ")
    without_line = rest if line.startswith(("line ", "page ", "pages ")) and rest else reason
    return without_line.partition(";")[0].partition(" (")[0]
