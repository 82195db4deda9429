"""Leave out rows that fit into no prompt or that teach nothing; refuse tables without negatives.

Nothing here imports torch, so that data are refused before the seconds that it takes.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dalm.config import Optimisation, RagE2E, RetrieverOnly
from dalm.errors import UserError
from dalm.io.examples import read_passages
from dalm.records import Example, Passage, ScoredQuestion, question_id

if TYPE_CHECKING:
    from dalm.models.batching import Sequences
    from dalm.models.generator import Generator

logger = logging.getLogger(__name__)


def fitting(
    queries: "Sequences", answers: "Sequences", generator: "Generator", passages: int = 1
) -> list[int]:
    """Return the rows whose question and answer fit into a prompt with so many passages.

    A warning counts the rows that are left out.

    Raises:
        UserError: no row fits.
    """
    overhead = generator.frame.overhead(passages)
    most = generator.max_length - overhead
    needed = [len(query) + len(answer) for query, answer in zip(queries, answers, strict=True)]
    kept = [row for row, need in enumerate(needed) if need <= most]
    longest = overhead + max(needed, default=0)
    remedy = f"use --generator-max-len {longest} to keep all"
    if generator.longest is not None and longest > generator.longest:
        remedy = (
            f"all need {longest} tokens, and the generator takes at most {generator.longest}: use "
            "one that takes more, or a shorter --prompt"
        )
    if not kept:
        raise UserError(f"no row's question and answer fit into the generator's length; {remedy}")
    if len(kept) < len(needed):
        logger.warning(
            "%d of %d rows left out: question and answer alone exceed --generator-max-len %d; %s",
            *(len(needed) - len(kept), len(needed), generator.max_length, remedy),
        )
    return kept


def usable_questions(
    questions: Sequence[ScoredQuestion], settings: RetrieverOnly, *, margins: bool
) -> list[ScoredQuestion]:
    """Return the questions whose candidates the teacher tells apart; a warning counts the others.

    One that it rules out is told apart from one with a score, but with `margins` it isn't.

    Raises:
        UserError: there is none; or with a contrastive weight that was set none with a positive.
    """
    kept = []
    for question in questions:
        scores = {each.score for each in question.candidates}
        if len(scores - {None} if margins else scores) > 1:
            kept.append(question)
    if not kept:
        remedy = "choose another --teacher for dalm score-candidates"
        if margins:
            remedy = f"use --objective listwise, or {remedy}"
        raise UserError(
            f"no question has two candidates with different scores, of {len(questions)} questions; "
            f"{remedy}"
        )
    if len(kept) < len(questions):
        logger.warning(
            "%d of %d questions left out: their candidates have no scores, or all the same",
            *(len(questions) - len(kept), len(questions)),
        )
    positives = sum(question.positive is not None for question in kept)
    logger.info("teacher    names a positive for %d of %d questions", positives, len(kept))
    if not positives and settings.contrastive_weight not in (0, RetrieverOnly.contrastive_weight):
        raise UserError(
            "--contrastive-weight has no effect: the teacher names no positive; leave it out"
        )
    return kept


def check_negatives(examples: Sequence[Example], settings: Optimisation) -> None:
    """Refuse data that leaves a question without a negative; warn of a single question.

    Raises:
        UserError: a batch of one question without hard negatives, or a table of one passage.
    """
    if all(example.negatives for example in examples):
        return
    if settings.per_device_train_batch_size < 2:
        raise UserError(
            "--per-device-train-batch-size 1: the negatives are the batch's other passages; "
            "use 2 or more, or give every question hard negatives (dalm mine-negatives)"
        )
    distinct = {example.passage.id for example in examples if example.passage}
    if len(distinct) < 2:
        raise UserError(
            "the table has one distinct passage, so there are no negatives; add rows with others"
        )
    questions = {question_id(example.query) for example in examples if example.passage}
    if len(questions) < 2:
        logger.warning(
            "all rows ask the same question, so every passage is right and none is a negative: the "
            "contrastive loss stays at 0; add rows with other questions, or hard negatives"
        )


def additional_passages(examples: Sequence[Example], settings: RagE2E) -> list[Passage]:
    """Return the passages for joint training to search besides the examples' own.

    Raises:
        UserError: fewer than two passages in all, or a contrastive weight without gold passages.
    """
    own = {example.passage.id for example in examples if example.passage}
    if settings.candidates == "in-batch":
        check_negatives(examples, settings)
        return []
    more = [p for source in settings.passages or () for p in read_passages(source, settings)]
    count = len(own.union(passage.id for passage in more))
    if count < 2:
        raise UserError(
            f"--candidates index: the knowledge base has {count} passages; name tables of passages "
            "with --passages"
        )
    if not own and settings.contrastive_weight not in (0, RagE2E.contrastive_weight):
        raise UserError(
            "--contrastive-weight has no effect on a table without gold passages; leave it out"
        )
    return more
