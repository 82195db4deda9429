"""Mark the passages of questions by their answers, for training on a table without passages.

The first passage found that has the answer in it, else the first one found: the cheapest labels,
and as good as a generator's wherever answers don't stand in several passages
(docs/experiments.md).
"""

import logging
from dataclasses import fields

from dalm.config import Columns, RetrieverOnly, ScoreCandidates
from dalm.errors import UserError
from dalm.io.columns import find_columns
from dalm.io.tables import read_table
from dalm.records import Example
from dalm.retrieval.bm25 import BM25
from dalm.teachers import candidate_search, labels
from dalm.teachers.answer_match import AnswerMatch
from dalm.teachers.search_rank import SearchRank
from dalm.teachers.teacher import Needs, Teacher

logger = logging.getLogger(__name__)


def marked_examples(source: str, settings: RetrieverOnly) -> list[Example]:
    """Return the questions of a table with the passages that answer them, as far as words tell.

    They are the positives of `dalm score-candidates --teacher answer-match search` with its
    defaults: of the passages that BM25 finds by question and answer the first with the answer in
    it; the first of all where none has it. Questions for which nothing is found are left out. How
    many are marked by which is logged.

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
    teachers: list[Teacher] = [AnswerMatch(), SearchRank()]
    columns = {each.name: getattr(settings, each.name) for each in fields(Columns)}
    assert settings.passages is not None
    search = ScoreCandidates(
        **columns,
        passages=settings.passages,
        teacher=[each.name for each in teachers],
        output="-",
    )
    needs: dict[Needs, str] = {"answer": "marking passages by answers (--passages)"}
    questions = candidate_search.read_questions(table, search, needs)
    searcher = BM25(candidate_search.read_knowledge_base(search))
    found = candidate_search.search_candidates(questions, searcher, search)
    matched = labels.score_in_turn(teachers[:1], found)
    scored = labels.score_in_turn(teachers, found)
    examples = [
        Example(each.query, each.answer, each.positive)
        for each in labels.label(found, scored, search)
        if each.positive is not None
    ]
    _tell(len(examples), sum(each.has_positive for each in matched), len(questions))
    return examples


def _tell(marked: int, matched: int, questions: int) -> None:
    if not marked:
        raise UserError(
            "--passages: BM25 finds no passage for any of the questions; name the passages that "
            "they are about"
        )
    logger.info(
        "labelled   %d of %d questions: %d by the first passage found that has the answer in it, "
        "%d by the first one found",
        *(marked, questions, matched, marked - matched),
    )
