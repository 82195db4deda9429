"""Count passages and documents, and log the counts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dalm.errors import UserError
from dalm.ingest.loaders.loader import Skipped

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """How many passages and documents there were."""

    existing: int = 0
    """Passages of the existing file."""
    missing: int = 0
    """Of these, passages that the documents no longer contain."""
    new: int = 0
    duplicates: int = 0
    """Passages that are in these documents more than once."""
    near_duplicates: int = 0
    contained: int = 0
    """Passages that stand in another document."""
    documents: int = 0
    """Documents that were read, wholly or in part."""
    in_part: int = 0
    unread: int = 0
    """Files and rows that could not be read."""
    short: int = 0
    empty: int = 0

    def require_documents(self, skipped: Sequence[Skipped]) -> None:
        """Raise UserError if there was no document at all."""
        if self.documents:
            return
        if skipped:
            first = skipped[0]
            more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
            raise UserError(f"nothing could be read: {first.source}: {first.reason}{more}")
        raise UserError(
            f"none of {self.empty} rows has a text; name its column: --text-column NAME"
        )

    def log(self) -> None:
        """Log what was read, written and left out."""
        notes = []
        if self.short:
            notes.append(f"{self.short} shorter than --min-words, without a passage")
        if self.empty:
            notes.append(f"besides {self.empty} rows without a text")
        logger.info("documents  %s%s", self._read(), f" ({'; '.join(notes)})" if notes else "")
        logger.info(
            "passages   %d: %d new, %d existing; left out %d duplicates, %d near duplicates%s",
            *(self.existing + self.new, self.new, self.existing),
            *(self.duplicates, self.near_duplicates),
            f", {self.contained} that stand in another document" if self.contained else "",
        )
        if self.missing:
            logger.warning(
                "           %d of the existing passages are in none of these documents; "
                "--overwrite-output makes the file anew",
                self.missing,
            )

    def _read(self) -> str:
        """Return how many documents were read, and how far if not all of them wholly."""
        if not self.unread and not self.in_part:
            return str(self.documents)
        whole = self.documents - self.in_part
        total = self.documents + self.unread
        return f"{total}: {whole} whole, {self.in_part} in part, {self.unread} unread"
