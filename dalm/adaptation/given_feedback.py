"""Read what people said of a system's answers, as questions to train and to evaluate on."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from dalm.file_reading import user_path
from dalm.records import Example, Passage
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.training_rows import feedback_rows

logger = logging.getLogger(__name__)


def indexes_of(named: Sequence[str], own: Path) -> list[Path]:
    """Return the indexes whose feedback is read: those named, else the system's own."""
    return [user_path(each) for each in named] or [own]


def judgments_in(indexes: Sequence[Path]) -> str:
    """Return how many judgments there are, and a hash of them.

    Raises:
        UserError: an index keeps no feedback.
    """
    count, hashed = 0, hashlib.sha256()
    for index in indexes:
        with FeedbackStore.open(index, create=False) as store:
            found = store.judgments()
        count += len(found)
        hashed.update(repr(found).encode())
    return f"{count} ({hashed.hexdigest()[:8]})"


def judged_examples(
    indexes: Sequence[Path], passages: Mapping[str, Passage]
) -> list[tuple[Example, int]]:
    """Return the questions that judgments answer, and how often each stands in training.

    Passages that are no longer there give no question.
    """
    with ExitStack() as opened:
        stores = [opened.enter_context(FeedbackStore.open(each, create=False)) for each in indexes]
        found = feedback_rows(stores, passages)
    logger.info(
        "feedback   %d rows of %d questions by the judgments of %d people; %d judgments are left "
        "out, and people disagree on %d passages and answers",
        *(len(found.rows), len({row.query for row in found.rows}), found.voters),
        *(found.left_out.total(), found.conflicting),
    )
    return [(row.example, row.copies) for row in found.rows]
