"""Score gold passages 1 and all others 0, as the ceiling of what a teacher can say."""

from collections.abc import Sequence
from typing import ClassVar

from dalm.retrieval.negatives import text_key
from dalm.teachers.teacher import Candidates, Needs, Teacher


class Gold(Teacher):
    """Score a question's gold passages 1, those of all its rows, and others 0."""

    name: ClassVar[str] = "gold"
    label: ClassVar[str] = "gold passages"
    unit: ClassVar[str] = "1 for a gold passage, else 0"
    needs: ClassVar[frozenset[Needs]] = frozenset({"gold"})
    temperature: ClassVar[float] = 0.1
    margin: ClassVar[float] = 1.0
    least_positive: ClassVar[float] = 1.0

    def score(self, questions: Sequence[Candidates]) -> list[list[float]]:
        """Return 1 for candidates with the text of a gold passage, else 0."""
        return [
            [float(text_key(passage) in each.golds) for passage in each.passages]
            for each in questions
        ]
