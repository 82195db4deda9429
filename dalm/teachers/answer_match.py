"""Score passages by whether the answer stands in them: distant supervision.

Chen et al., 2017 (arXiv:1704.00051, section 3.3.2); Karpukhin et al., 2020, DPR (arXiv:2004.04906,
section 4.2) take the highest-ranked passage with the answer in it as the positive.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from dalm.ingest.words import words
from dalm.teachers.teacher import Candidates, Needs, Teacher

logger = logging.getLogger(__name__)

ARTICLES = frozenset({"a", "an", "the"})
"""Words that don't count, as in SQuAD's measures of answers (Rajpurkar et al., 2016)."""


class AnswerMatch(Teacher):
    """Score a passage 1 if it contains the answer as consecutive words, else 0.

    Words are runs of letters and digits, folded (`ingest.words`), without articles; in scripts
    without blanks each letter is one. An answer without a word is in no passage.
    """

    name: ClassVar[str] = "answer-match"
    label: ClassVar[str] = "answer in the passage"
    unit: ClassVar[str] = "1 for a passage with the answer in it, else 0"
    needs: ClassVar[frozenset[Needs]] = frozenset({"answer"})
    temperature: ClassVar[float] = 0.1
    margin: ClassVar[float] = 1.0
    least_positive: ClassVar[float] = 1.0

    def score(self, questions: Sequence[Candidates]) -> list[list[float]]:
        """Return 1 for candidates that contain the answer, else 0; log how many do."""
        scores = matches(questions)
        counts = [sum(each) for each in scores]
        logger.info(
            "answers    of %d questions %d have their answer in one candidate, %d in several, %d "
            "in none; a short one, such as yes or a number, stands in many by chance",
            *(len(counts), counts.count(1), sum(count > 1 for count in counts), counts.count(0)),
        )
        return scores


def matches(questions: Sequence[Candidates]) -> list[list[float]]:
    """Return 1 for candidates that contain their question's answer, else 0."""
    return [
        [float(contains(passage.text, each.answer or "")) for passage in each.passages]
        for each in questions
    ]


def contains(text: str, answer: str) -> bool:
    """Return whether a text contains the answer as consecutive words.

    >>> contains("It is about 31 kb (kilobases) long.", "31 kb")
    True
    >>> contains("It starts at 3.", "art")
    False
    """
    wanted = _joined(answer)
    return not wanted.isspace() and wanted in _joined(text)


@lru_cache(maxsize=1 << 14)
def _joined(text: str) -> str:
    """Return the words with a blank around each."""
    return f" {' '.join(word for word in words(text) if word not in ARTICLES)} "
