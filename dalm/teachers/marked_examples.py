"""Mark the passages of questions by their answers, for training on a table without passages."""

import logging
from collections.abc import Sequence
from dataclasses import fields

from dalm.config import Columns, RetrieverOnly, ScoreCandidates
from dalm.errors import UserError
from dalm.io.columns import find_columns
from dalm.io.tables import read_table
from dalm.records import Example
from dalm.retrieval.bm25 import BM25
from dalm.teachers import candidate_search, labels
from dalm.teachers.answer_match import AnswerMatch
from dalm.teachers.teacher import Needs

logger = logging.getLogger(__name__)


def marked_examples(source: str, settings: RetrieverOnly) -> list[Example]:
    """Return the questions of a table with the passages that hold their answers.

    They are the positives of `dalm score-candidates --teacher answer-match` with its defaults: the
    first of the passages that BM25 finds by question and answer with the answer in it. Questions
    without one are left out, and counted.

    Raises:
        UserError: the table has passages or no answers, or no answer stands in a passage.
    """
    table = read_table(source, encoding=settings.encoding)
    own = find_columns(table, settings, {"query"}, {"query", "passage"}).get("passage")
    if own is not None:
        raise UserError(
            f"--passages: {table.name} has passages of its own in the column {own!r}; leave out "
            "--passages to train on them, or the column"
        )
    columns = {each.name: getattr(settings, each.name) for each in fields(Columns)}
    assert settings.passages is not None
    search = ScoreCandidates(
        **columns, passages=settings.passages, teacher=[AnswerMatch.name], output="-"
    )
    needs: dict[Needs, str] = {"answer": "marking passages by answers (--passages)"}
    questions = candidate_search.read_questions(table, search, needs)
    searcher = BM25(candidate_search.read_knowledge_base(search))
    found = candidate_search.search_candidates(questions, searcher, search)
    scored = labels.score_in_turn([AnswerMatch()], found)
    examples = [
        Example(each.query, each.answer, each.positive)
        for each in labels.label(found, scored, search)
        if each.positive is not None
    ]
    _tell(examples, len(questions))
    return examples


def _tell(examples: Sequence[Example], questions: int) -> None:
    if not examples:
        raise UserError(
            "--passages: no question's answer stands in a passage that BM25 finds; let another "
            "teacher mark them: dalm score-candidates --teacher generator"
        )
    logger.info(
        "labelled   %d of %d questions, by the first passage found that has the answer in it",
        *(len(examples), questions),
    )
