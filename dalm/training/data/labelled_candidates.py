"""Label the candidate passages of questions, from hard negatives or from a teacher's scores."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dalm.config import RerankerTraining
from dalm.config.options import spelled
from dalm.config.retriever_training import NAMED_COLUMNS
from dalm.errors import UserError
from dalm.io.examples import read_rows
from dalm.io.scored_tables import is_scored, scored_questions
from dalm.io.tables import read_table
from dalm.records import NO_SCORE, Example, ScoredQuestion

logger = logging.getLogger(__name__)

Kind = Literal["binary", "listwise"]
LABELS = {"binary": (1.0, 0.0), "listwise": (0.0, NO_SCORE)}
"""Labels of a right passage and of a wrong one."""
MINE = "mine them: dalm mine-negatives TABLE --retriever-name-or-path RETRIEVER --output FILE"
SCORE = "score more candidates: dalm score-candidates ... --num-candidates N"


@dataclass(frozen=True, slots=True)
class LabelledCandidates:
    """A question with candidate passages, the right or the best one first, and their labels.

    Labels are 1 and 0 for the binary objective, and scores for the listwise one.
    """

    query: str
    texts: tuple[str, ...]
    labels: tuple[float, ...]
    temperature: float | None = None
    """What scores are divided by in a softmax over them, if the teacher says."""


def of_pairs(
    examples: Sequence[Example], kind: Kind, lacks: str = "hard negatives", remedy: str = MINE
) -> list[LabelledCandidates]:
    """Return pairs with their hard negatives; what has none is left out, and counted.

    Raises:
        UserError: none has any.
    """
    right, wrong = LABELS[kind]
    made = []
    for example in examples:
        assert example.passage is not None
        texts = (example.passage.text, *(each.text for each in example.negatives))
        labels = (right, *[wrong] * len(example.negatives))
        made.append(LabelledCandidates(example.query, texts, labels))
    return _with_several(made, lacks, remedy)


def of_scores(questions: Sequence[ScoredQuestion], kind: Kind) -> list[LabelledCandidates]:
    """Return questions with scored candidates; where all score alike, they are left out, counted.

    Binary: the teacher's positive is right, its negatives are wrong, and what lies between is left
    out. Listwise: the labels are the scores.

    Raises:
        UserError: nothing is left, or the teacher names no right passage.
    """
    if kind == "listwise":
        lacks = "candidates with different scores"
        return _with_several([_scored(each) for each in questions], lacks, SCORE)
    labelled = [each for each in questions if each.positive is not None]
    if not labelled:
        raise UserError(
            "the teacher names no question's right passage; use --objective listwise, or another "
            "teacher"
        )
    examples = [Example(each.query, None, each.positive, each.negatives) for each in labelled]
    return of_pairs(examples, kind, "passages clearly below the right one", SCORE)


def _scored(question: ScoredQuestion) -> LabelledCandidates:
    candidates = sorted(question.candidates, key=lambda each: each.passage != question.positive)
    if len({each.score for each in candidates}) < 2:
        candidates = candidates[:1]
    texts = tuple(each.passage.text for each in candidates)
    scores = tuple(NO_SCORE if each.score is None else each.score for each in candidates)
    return LabelledCandidates(question.query, texts, scores, question.temperature)


def _with_several(
    questions: Sequence[LabelledCandidates], lacks: str, remedy: str
) -> list[LabelledCandidates]:
    kept = [each for each in questions if len(each.texts) > 1]
    if not kept:
        raise UserError(f"no question has {lacks}, from which a reranker learns; {remedy}")
    if len(kept) < len(questions):
        logger.warning(
            "%d of %d questions are left out: they have no %s; %s",
            *(len(questions) - len(kept), len(questions), lacks, remedy),
        )
    return kept


# Tables


class LabelledTable(NamedTuple):
    """What a table has to train a reranker on, and by which objective."""

    questions: list[LabelledCandidates]
    kind: Kind
    target_temperature: float | Literal["auto"] | None
    """Temperature of scores; None: the labels are no scores."""


def read_candidates(source: str, settings: RerankerTraining) -> LabelledTable:
    """Read a table of pairs with hard negatives, or of scored candidates.

    Raises:
        UserError: it can't be read, nothing in it can be learnt from, or an option has no effect.
    """
    table = read_table(source, encoding=settings.encoding)
    scored = is_scored(table)
    kind: Kind = settings.objective or ("listwise" if scored else "binary")
    if not (scored and kind == "listwise") and settings.target_temperature != "auto":
        raise UserError(
            f"--target-temperature {settings.target_temperature} has no effect: it is of a "
            "teacher's scores and --objective listwise; leave it out"
        )
    if not scored:
        rows = read_rows(table, settings, needs={"passage"}, optional=set())
        return LabelledTable(of_pairs(list(rows.values()), kind), kind, None)
    for name in NAMED_COLUMNS:
        if getattr(settings, name) != getattr(RerankerTraining, name):
            raise UserError(
                f"{spelled(name)} has no effect: a table of scored candidates has fixed columns; "
                "leave it out"
            )
    temperature = settings.target_temperature if kind == "listwise" else None
    return LabelledTable(of_scores(scored_questions(table, settings), kind), kind, temperature)
