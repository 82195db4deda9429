"""Score passages by their rank in the search that found them."""

from collections.abc import Sequence
from typing import ClassVar

from dalm.teachers.teacher import Candidates, Teacher


class SearchRank(Teacher):
    """Score a passage by minus its rank, 0 for the first: what no teacher at all would say."""

    name: ClassVar[str] = "search"
    label: ClassVar[str] = "rank in the search"
    unit: ClassVar[str] = "ranks, 0 for the first"
    temperature: ClassVar[float] = 1.0
    margin: ClassVar[float] = 1.0

    def score(self, questions: Sequence[Candidates]) -> list[list[float]]:
        """Return 0, -1, -2 ... of the candidates."""
        return [[-float(rank) for rank in range(len(each.passages))] for each in questions]
