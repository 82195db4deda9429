"""Let a language model order candidate passages, by windows from the last to the first.

Sun et al., 2023, RankGPT (arXiv:2304.09542, section 3.2): a window moves over the ranking from its
end, so that a good passage is carried to the top whatever its place was.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from dalm.config import ScoreCandidates
from dalm.llm.json_replies import by_name, objects
from dalm.llm.thoughts import without_thoughts
from dalm.prompts import numbered
from dalm.teachers.language_model_teacher import LanguageModelTeacher, TeacherRequest, shown
from dalm.teachers.teacher import Candidates

PROMPT = """\
{shown}

Passages:
{passages}

Order the {size} passages by how well they answer the question{agreeing}, the best one first. Name \
each of the numbers 1 to {size} once.

Send back: {{"order": [numbers]}}"""
_NUMBER = re.compile(r"\d+")
_ORDER = re.compile(r"[\s\[\]>,;.\d]+")


@dataclass
class Ranking:
    """The order of a question's candidates so far, by their places in the search."""

    question: Candidates
    order: list[int]
    windows: Iterator[slice]
    unnamed: set[int] = field(default_factory=set)
    """Candidates that the last order with them in its window has left out."""
    failed: bool = False
    """A window has no order."""


class LlmListwise(LanguageModelTeacher):
    """Score by minus the place in the order of a language model, 0 for the best.

    It sees the right answer if it is known. A passage that an order leaves out, after it was asked
    for a second time, has no score; nor has a question with a window that has no order.
    """

    name: ClassVar[str] = "llm-listwise"
    label: ClassVar[str] = "order of a language model"
    unit: ClassVar[str] = "places, 0 for the best"
    temperature: ClassVar[float] = 1.0
    margin: ClassVar[float] = 5.0
    field: ClassVar[str] = "order"
    again: ClassVar[str] = (
        "Reply with nothing but the order, and name each of the numbers 1 to {size} in it once."
    )
    window: int = ScoreCandidates.llm_window

    @classmethod
    def from_config(cls, settings: ScoreCandidates) -> Self:
        """Load the model, or name it on its server."""
        teacher = super().from_config(settings)
        teacher.window = settings.llm_window
        return teacher

    def score(self, questions: Sequence[Candidates]) -> list[list[float | None]]:
        """Return the places; the windows of all questions that are next are asked together."""
        rankings = [
            Ranking(each, list(range(len(each.passages))), windows(len(each.passages), self.window))
            for each in questions
        ]
        waiting = [(each, window) for each in rankings for window in [next(each.windows, None)]]
        while waiting := [(each, window) for each, window in waiting if window is not None]:
            requests = [self._request(*each) for each in waiting]
            found = self.ask(requests, lambda r, text: read_order(text, r.size), _is_whole)
            for (each, window), request in zip(waiting, requests, strict=True):
                _reorder(each, window, found.get(request.key))
            waiting = [(e, None if e.failed else next(e.windows, None)) for e, _ in waiting]
        self.warn_unscored(sum(e.failed for e in rankings), len(rankings), "questions")
        unnamed = sum(len(each.unnamed) for each in rankings if not each.failed)
        self.warn_unscored(unnamed, sum(len(e.order) for e in rankings), "candidates")
        return [_places(each) for each in rankings]

    def log_estimate(self, questions: Sequence[Candidates]) -> None:
        """Log the number of requests and tokens; nothing is asked."""
        first, number = [], 0
        for each in questions:
            moves = list(windows(len(each.passages), self.window))
            number += len(moves)
            ranking = Ranking(each, list(range(len(each.passages))), iter(moves))
            first += [self._request(ranking, window) for window in moves[:1]]
        self.log_requests(first, number)

    def _request(self, ranking: Ranking, window: slice) -> TeacherRequest:
        asked = ranking.question
        texts = [asked.passages[place].text for place in ranking.order[window]]
        size = len(texts)
        prompt = PROMPT.format(
            shown=shown(asked.query, asked.answer),
            passages="\n\n".join(numbered(texts)),
            size=size,
            agreeing=" and agree with the right answer" if asked.answer else "",
        )
        places: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
        return self.request(asked.query, prompt, places, size)


def windows(count: int, size: int) -> Iterator[slice]:
    """Yield the windows over a ranking, from its end to its beginning, by half a window.

    >>> list(windows(7, 4))
    [slice(3, 7, None), slice(1, 5, None), slice(0, 3, None)]
    """
    end = count
    while end > 1:
        start = max(0, end - size)
        yield slice(start, end)
        if start == 0:
            return
        end -= size // 2


def read_order(text: str, size: int) -> list[int] | None:
    """Return the places in a window, from 0, in the order of a reply; None if there is none.

    The last JSON object with an order counts; else a reply that is numbers and nothing else, such
    as `[2] > [1]`. A number counts where it is first named; others than 1 to `size` don't count.
    """
    text = without_thoughts(text)
    found = list(objects(text, lambda each: "order" in by_name(each)))
    if found:
        text = str(by_name(found[-1])["order"])
    elif not _ORDER.fullmatch(text):
        return None
    named = dict.fromkeys(int(number[:9]) - 1 for number in _NUMBER.findall(text))
    return [place for place in named if 0 <= place < size] or None


def _is_whole(request: TeacherRequest, order: Sequence[int]) -> bool:
    return len(order) == request.size


def _reorder(ranking: Ranking, window: slice, order: Sequence[int] | None) -> None:
    """Put the candidates of a window in an order; those that it leaves out stay behind the others.

    They are not worse: nothing is known of them.
    """
    if order is None:
        ranking.failed = True
        return
    before = ranking.order[window]
    named = [before[place] for place in order]
    others = [place for place in before if place not in named]
    ranking.order[window] = [*named, *others]
    ranking.unnamed = (ranking.unnamed - set(named)) | set(others)


def _places(ranking: Ranking) -> list[float | None]:
    if ranking.failed:
        return [None] * len(ranking.order)
    known = [place for place in ranking.order if place not in ranking.unnamed]
    ranks = {place: -float(rank) for rank, place in enumerate(known)}
    return [ranks.get(place) for place in range(len(ranking.order))]
