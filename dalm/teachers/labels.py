"""Score candidates with one teacher after another; make positives and negatives of the scores."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dalm.config import ScoreCandidates
from dalm.records import Passage, ScoredCandidate, ScoredQuestion, best_first, question_id
from dalm.retrieval.negatives import text_key
from dalm.teachers.teacher import Candidates, Teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a question's candidates, in the order of the search.

    None: ruled out by an earlier teacher than the one whose scores these are.
    """

    scores: tuple[float | None, ...]
    margin: float
    """That of the teacher whose scores these are."""
    has_positive: bool
    """Whether a teacher says that the best candidate is the positive."""
    temperature: float | None = None
    """That of the teacher whose scores these are."""
    unscored: frozenset[int] = frozenset()
    """Places of candidates of which a teacher can't say anything, though it can of others."""

    @property
    def best(self) -> int | None:
        """Place of the best candidate, the first of equal ones; None without a positive."""
        if not self.has_positive:
            return None
        places = [place for place, score in enumerate(self.scores) if score is not None]
        return max(places, key=lambda place: (self.scores[place], -place))

    def not_worse(self, margin: float | None = None) -> list[int]:
        """Return the places of the best candidates and those that score nearly as high.

        Nearly is by less than the margin; so all others are clearly worse.
        """
        margin = self.margin if margin is None else margin
        known = [score for score in self.scores if score is not None]
        return [
            place
            for place, score in enumerate(self.scores)
            if score is not None and max(known) - score < margin
        ]


def score_in_turn(teachers: Sequence[Teacher], questions: Sequence[Candidates]) -> list[Scores]:
    """Score the candidates with the first teacher, and those that it leaves tied with the next.

    Tied are the candidates that are not clearly worse than the best (`Teacher.margin`); the others
    are ruled out. A candidate that is left alone keeps its score, and no further teacher sees it.
    Neither does one that the teacher can't score, though it can others. A question of which a
    teacher can't say anything stays as it was.
    """
    scored = [Scores((None,) * len(each.passages), 0.0, False) for each in questions]
    left = [tuple(range(len(each.passages))) for each in questions]
    open_rows = [row for row, places in enumerate(left) if places]
    for turn, teacher in enumerate(teachers):
        asked = [_only(questions[row], left[row]) for row in open_rows]
        for row, scores in zip(open_rows, teacher.score(asked), strict=True):
            known = dict(zip(left[row], scores, strict=True))
            best = max((score for score in scores if score is not None), default=None)
            if best is None:
                continue
            positive = scored[row].has_positive or best >= teacher.least_positive
            every = tuple(map(known.get, range(len(questions[row].passages))))
            unscored = scored[row].unscored | {p for p, score in known.items() if score is None}
            scored[row] = Scores(every, teacher.margin, positive, teacher.temperature, unscored)
            left[row] = tuple(scored[row].not_worse())
            if turn < len(teachers) - 1:
                kept = tuple(s if p in left[row] else None for p, s in enumerate(every))
                scored[row] = replace(scored[row], scores=kept)
        open_rows = [row for row in open_rows if len(left[row]) > 1]
    return scored


def log_estimate(teachers: Sequence[Teacher], questions: Sequence[Candidates]) -> None:
    """Log how long the first teacher that takes time will take, after those before it."""
    for turn, teacher in enumerate(teachers):
        if teacher.takes_time:
            scored = score_in_turn(teachers[:turn], questions)
            left = [
                _only(each, scores.not_worse() if turn else range(len(each.passages)))
                for each, scores in zip(questions, scored, strict=True)
            ]
            teacher.log_estimate([each for each in left if len(each.passages) > min(turn, 1)])
            return
    logger.info("dry run    %s: seconds", " ".join(teacher.name for teacher in teachers))


def _only(question: Candidates, places: Sequence[int]) -> Candidates:
    return replace(question, passages=tuple(question.passages[place] for place in places))


def label(
    questions: Sequence[Candidates], scored: Sequence[Scores], settings: ScoreCandidates
) -> list[ScoredQuestion]:
    """Return the questions with their scored candidates, a positive and negatives.

    The positive is the best candidate, of equal ones the first in the search, if a teacher says
    that there is one. Negatives are the first in the search that are ruled out or clearly worse
    than the positive, in every row with the same question: what answers one of its rows is no
    negative of another. Candidates that a teacher couldn't score are left out: they may be right.
    """
    right: dict[str, set[str]] = defaultdict(set)
    for each, scores in zip(questions, scored, strict=True):
        if scores.has_positive:
            places = scores.not_worse(settings.negative_margin)
            right[question_id(each.query)] |= {text_key(each.passages[p]) for p in places}
    return [
        _labelled(each, scores, right[question_id(each.query)], settings)
        for each, scores in zip(questions, scored, strict=True)
    ]


def _labelled(
    question: Candidates, scores: Scores, right: set[str], settings: ScoreCandidates
) -> ScoredQuestion:
    passages = [_written(each, settings.prepend_title) for each in question.passages]
    known = [place for place in range(len(passages)) if place not in scores.unscored]
    candidates = best_first(ScoredCandidate(passages[p], scores.scores[p]) for p in known)
    made = ScoredQuestion(
        question.query, question.answer, tuple(candidates), temperature=scores.temperature
    )
    if scores.best is None:
        return made
    others = [passages[p] for p in known if text_key(question.passages[p]) not in right]
    return replace(
        made, positive=passages[scores.best], negatives=tuple(others[: settings.num_negatives])
    )


def _written(passage: Passage, prepended: bool) -> Passage:
    """Return a passage as it is written: its title is a field of its own, not part of the text."""
    title = f"{passage.title}\n"
    if not (prepended and passage.title):
        return passage
    return Passage.of(passage.text.removeprefix(title), passage.title).with_provenance(passage)


def log_labels(labelled: Sequence[ScoredQuestion], settings: ScoreCandidates) -> None:
    """Log how many questions have a positive and negatives."""
    negatives = [len(each.negatives) for each in labelled if each.positive is not None]
    logger.info(
        "labelled   %d of %d questions by %s, with %d negatives; %d have none",
        *(len(negatives), len(labelled), " ".join(settings.teacher), sum(negatives)),
        negatives.count(0),
    )
    logger.info("table      %s", settings.output)
    if not negatives:
        logger.warning(
            "no question is labelled: search more candidates, --num-candidates, or add a teacher "
            "that decides among all of them, such as generator"
        )
