"""Keep the answers of a server: the newest in memory, or all of them in the index's feedback."""

import logging
import threading
from collections import OrderedDict
from typing import TypeVar

from dalm.errors import UserError
from dalm.serving.api_errors import ApiError
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.judgments import AnswerRecord, ComparisonRecord

T = TypeVar("T")
logger = logging.getLogger(__name__)

IN_MEMORY = 200
"""Answers, and comparisons, that are remembered without a store."""


class KeptAnswers:
    """Answers and comparisons by their ids; several threads may use it.

    With a store each is on the disk when `keep` returns, and none is forgotten.
    """

    def __init__(self, store: FeedbackStore | None = None) -> None:
        self.store = store
        self._answers: OrderedDict[str, AnswerRecord] = OrderedDict()
        self._comparisons: OrderedDict[str, ComparisonRecord] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, record: AnswerRecord | ComparisonRecord) -> None:
        """Keep an answer or a comparison.

        One that can't be written is logged: the client gets its answer, and can't judge it.
        """
        if self.store is None:
            with self._lock:
                if isinstance(record, AnswerRecord):
                    _remember(self._answers, record.id, record)
                else:
                    _remember(self._comparisons, record.id, record)
            return
        try:
            if isinstance(record, AnswerRecord):
                self.store.keep_answer(record)
            else:
                self.store.keep_comparison(record)
        except UserError as error:
            logger.error("feedback   answer %s isn't kept: %s", record.id, error)  # noqa: TRY400

    def answer(self, id: str) -> AnswerRecord | None:
        """Return an answer; None if it isn't kept."""
        if self.store is not None:
            return self.store.answer(id)
        with self._lock:
            return self._answers.get(id)

    def comparison(self, id: str) -> ComparisonRecord | None:
        """Return a comparison; None if it isn't kept."""
        if self.store is not None:
            return self.store.comparison(id)
        with self._lock:
            return self._comparisons.get(id)

    @property
    def judged(self) -> FeedbackStore:
        """The store that takes judgments.

        Raises:
            ApiError: 403, the server was started without --feedback.
        """
        if self.store is None:
            raise ApiError(
                403,
                "this server takes no feedback: it was started without --feedback",
                code="no_feedback",
            )
        return self.store


def _remember(kept: OrderedDict[str, T], name: str, record: T) -> None:
    kept[name] = record
    while len(kept) > IN_MEMORY:
        kept.popitem(last=False)
