"""Mark the passages of questions by their answers, for training on a table without passages.

The first passage found that has the answer in it, else the first one found: the cheapest labels,
and as good as a generator's wherever answers don't stand in several passages
(docs/experiments.md).
"""

import logging
from collections.abc import Sequence
from dataclasses import fields

from dalm.config import Columns, RetrieverOnly, ScoreCandidates
from dalm.errors import UserError
from dalm.io.columns import find_columns
from dalm.io.tables import read_table
from dalm.records import Example, Passage
from dalm.retrieval.bm25 import BM25
from dalm.teachers import candidate_search, labels
from dalm.teachers.answer_match import AnswerMatch, matches
from dalm.teachers.search_rank import SearchRank
from dalm.teachers.teacher import Candidates, Needs, Teacher

logger = logging.getLogger(__name__)


def marked_examples(source: str, settings: RetrieverOnly) -> list[Example]:
    """Return the questions of a table with the passages that answer them, as `mark` finds them.

    Questions for which nothing is found are left out.

    Raises:
        UserError: the table has passages or no answers, or nothing is found for any question.
    """
    table = read_table(source, encoding=settings.encoding)
    own = find_columns(table, settings, {"query"}, {"query", "passage"}).get("passage")
    if own is not None:
        raise UserError(
            f"--passages: {table.name} has passages of its own in the column {own!r}; leave out "
            "--passages to train on them, or the column"
        )
    assert settings.passages is not None
    columns = {each.name: getattr(settings, each.name) for each in fields(Columns)}
    search = ScoreCandidates(
        **columns, passages=settings.passages, teacher=[AnswerMatch.name], output="-"
    )
    needs: dict[Needs, str] = {"answer": "marking passages by answers (--passages)"}
    questions = candidate_search.read_questions(table, search, needs)
    passages = mark(questions, candidate_search.read_knowledge_base(search))
    found = [
        Example(each.query, each.answer, passage)
        for each, passage in zip(questions, passages, strict=True)
        if passage is not None
    ]
    if not found:
        raise UserError(
            "--passages: BM25 finds no passage for any of the questions; name the passages that "
            "they are about"
        )
    return found


def mark(questions: Sequence[Candidates], passages: Sequence[Passage]) -> list[Passage | None]:
    """Return the passage that answers each question, as far as words tell; None: none is found.

    They are the positives of `dalm score-candidates --teacher answer-match search` with its
    defaults: of the passages that BM25 finds by question and answer the first with the answer in
    it; the first of all where none has it. How many are marked by which is logged.
    """
    teachers: list[Teacher] = [AnswerMatch(), SearchRank()]
    names = [each.name for each in teachers]
    search = ScoreCandidates(passages=[], teacher=names, output="-")
    found = candidate_search.search_candidates(questions, BM25(passages), search)
    scored = labels.score_in_turn(teachers, found)
    marked = [each.positive for each in labels.label(found, scored, search)]
    holding = [int(sum(each)) for each in matches(found)]
    _tell(holding, marked)
    return marked


def _tell(holding: Sequence[int], marked: Sequence[Passage | None]) -> None:
    by_answer = sum(number > 0 for number in holding)
    by_search = len(marked) - marked.count(None) - by_answer
    logger.info(
        "labelled   %d of %d questions: %d by the first passage found that has the answer in it, "
        "%d by the first one found",
        *(by_answer + by_search, len(marked), by_answer, by_search),
    )
    several = sum(number > 1 for number in holding)
    if 2 * several > len(marked):
        logger.warning(
            "labelled   for %d of %d questions several passages found have the answer in them, and "
            "the first may be the wrong one; a generator that reads can tell them apart: dalm "
            "train-rag-e2e --candidates index, or dalm score-candidates --teacher generator "
            "(docs/experiments.md)",
            *(several, len(marked)),
        )
