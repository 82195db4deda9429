"""Read questions, and search the candidate passages that teachers score."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from dalm.config import RetrieverLengths, ScoreCandidates
from dalm.config.options import spelled
from dalm.config.shared import RetrieverKind
from dalm.errors import UserError
from dalm.io.examples import Field, read_passages, read_rows
from dalm.io.tables import Table
from dalm.models.counting_encoder import CountingEncoder, Encode, encode_counting
from dalm.models.loading import pinned, placement_of
from dalm.models.retriever import Retriever, retriever_from_config, tell_retriever
from dalm.progress import track
from dalm.records import Passage, gold_passages, normalise, question_id
from dalm.retrieval.base import Searcher
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.embedding_cache import encode_passages_cached, fingerprint
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.hybrid import IndexSearcher, Mode
from dalm.retrieval.negatives import text_key
from dalm.scaling.pool import check_same, pool_of
from dalm.teachers.teacher import Candidates, Needs, PairTeacher, Teacher, teacher_class

logger = logging.getLogger(__name__)

BLOCK = 256  # searches whose hits are in memory at once


def read_questions(
    table: Table, settings: ScoreCandidates, needs: Mapping[Needs, str]
) -> list[Candidates]:
    """Read the distinct pairs of a question and an answer, without candidates as yet.

    `needs` are what the rows must have, each with the option that needs it. Rows without a needed
    answer are left out. Gold passages are read only if they are needed; those of all rows with the
    same question are gold for each of them, and a question may have none.

    Raises:
        UserError: no row has what is needed.
    """
    optional: set[Field] = {"answer", "passage"} if "gold" in needs else {"answer"}
    examples = list(read_rows(table, settings, needs={"query"}, optional=optional).values())
    _check_there(table, "answer", [example.answer for example in examples], needs.get("answer"))
    _check_there(table, "passage", [example.passage for example in examples], needs.get("gold"))
    golds = {
        question: frozenset(map(text_key, passages))
        for question, passages in gold_passages(examples).items()
    }
    distinct: dict[tuple[str, str], Candidates] = {}
    unanswered = 0
    for each in examples:
        question = question_id(each.query)
        asked = Candidates(each.query, each.answer, (), golds[question])
        if each.answer or "answer" not in needs:
            distinct.setdefault((question, normalise(each.answer or "")), asked)
        else:
            unanswered += 1
    if unanswered:
        logger.warning(
            "questions  %d of %d rows have no answer and are left out: %s needs one",
            *(unanswered, len(examples), needs["answer"]),
        )
    if repeated := len(examples) - unanswered - len(distinct):
        logger.info("questions  %d rows repeat a question and its answer: left out", repeated)
    return list(distinct.values())


def _check_there(
    table: Table, column: str, cells: Sequence[object | None], option: str | None
) -> None:
    if option and not any(cells):
        raise UserError(
            f"{table.name} has no {column}s, and {option} needs them; name their column: "
            f"--{column}-column NAME"
        )


def read_knowledge_base(settings: ScoreCandidates) -> list[Passage]:
    """Read the passages to search; of those with the same normalised text the first one.

    Raises:
        UserError: a table can't be read, or there are fewer than two distinct passages.
    """
    passages = [
        passage for source in settings.passages for passage in read_passages(source, settings)
    ]
    distinct: dict[str, Passage] = {}
    for passage in passages:
        distinct.setdefault(text_key(passage), passage)
    if len(distinct) < 2:
        raise UserError("--passages: there is only one distinct passage; name a knowledge base")
    copies = len(passages) - len(distinct)
    logger.info("searching  %d passages%s", len(distinct), f", {copies} copies" if copies else "")
    return list(distinct.values())


def mode_of(settings: ScoreCandidates) -> Mode:
    """Return how the candidates are searched."""
    return settings.search or ("hybrid" if settings.retriever_name_or_path else "text")


def check_search(settings: ScoreCandidates) -> None:
    """Refuse a search without its retriever, and options of a retriever without one.

    Raises:
        UserError: names the option.
    """
    named = settings.retriever_name_or_path is not None
    if named and settings.search == "text":
        raise UserError(
            "--retriever-name-or-path has no effect with --search text; leave one of them out"
        )
    if settings.search in ("dense", "hybrid") and not named:
        raise UserError(
            f"--search {settings.search} needs --retriever-name-or-path; name one, or use --search "
            "text"
        )
    for each in (*fields(RetrieverLengths), *fields(RetrieverKind)):
        if not named and getattr(settings, each.name) != each.default:
            option = spelled(each.name)
            raise UserError(
                f"{option} has no effect without --retriever-name-or-path; add it or leave out "
                f"{option}"
            )


def searcher_of_passages(
    passages: Sequence[Passage], settings: ScoreCandidates, cache: Path | None
) -> Searcher:
    """Return the search of `--search`; a retriever's vectors are cached in a folder."""
    mode = mode_of(settings)
    if mode == "text":
        return BM25(passages)
    adapter = settings.retriever_peft_model_path
    retriever = _retriever(settings)
    tell_retriever(retriever, adapter)
    texts = [passage.text for passage in passages]
    encoder = None
    if settings.ray is not None:
        make = partial(_encode_elsewhere, pinned(settings), fingerprint(retriever))
        encoder = CountingEncoder(retriever, pool_of(settings), make)
    index = ExactIndex(passages, encode_passages_cached(retriever, texts, cache, encoder))
    return IndexSearcher(retriever, index, mode)


def _retriever(settings: ScoreCandidates) -> Retriever:
    name, adapter = settings.retriever_name_or_path, settings.retriever_peft_model_path
    assert name is not None
    placement = replace(placement_of(settings), frozen=True)
    return retriever_from_config(settings, name, placement, adapter)


def _encode_elsewhere(settings: ScoreCandidates, expected: str) -> Encode:
    """Load the retriever in another process, and check that it is the same."""
    retriever = _retriever(settings)
    check_same(f"retriever {retriever.name}", fingerprint(retriever), expected)
    return partial(encode_counting, retriever)


def check_ray_has_effect(settings: ScoreCandidates) -> None:
    """Refuse a Ray cluster where neither the search nor a teacher would work in it.

    Raises:
        UserError: says what would.
    """
    takes_pool = any(issubclass(teacher_class(name), PairTeacher) for name in settings.teacher)
    if settings.ray is not None and not takes_pool and not settings.retriever_name_or_path:
        raise UserError(
            f"--ray has no effect on --teacher {' '.join(settings.teacher)}: the vectors of "
            "--retriever-name-or-path and the teachers generator and cross-encoder are computed "
            "in a cluster; leave it out"
        )


def work_elsewhere(teachers: Sequence[Teacher], settings: ScoreCandidates) -> None:
    """Let the teachers score in the Ray cluster of the options."""
    for teacher in teachers:
        teacher.use_pool(pool_of(settings), pinned(settings))


def search_candidates(
    questions: Sequence[Candidates], searcher: Searcher, settings: ScoreCandidates
) -> list[Candidates]:
    """Return the questions with the best passages of the search; few or none may share a word."""
    with_answer = settings.search_with == "question-and-answer"
    texts = [
        f"{each.query}\n{each.answer}" if with_answer and each.answer else each.query
        for each in questions
    ]
    distinct = list(dict.fromkeys(texts))
    found: dict[str, tuple[Passage, ...]] = {}
    blocks = (distinct[start : start + BLOCK] for start in range(0, len(distinct), BLOCK))
    for block in track(blocks, len(distinct), "searching candidates", "questions", len):
        hits = searcher.search(block, settings.num_candidates)
        for text, each in zip(block, hits, strict=True):
            found[text] = tuple(hit.passage for hit in each)
    candidates = [
        replace(each, passages=found[text]) for each, text in zip(questions, texts, strict=True)
    ]
    _log(candidates, settings)
    return candidates


def _log(candidates: Sequence[Candidates], settings: ScoreCandidates) -> None:
    answered = any(each.answer for each in candidates)
    words = settings.search_with.replace("-", " ") if answered else "question"
    logger.info(
        "candidates %d for %d questions, at most %d each, by %s search with the %s",
        sum(len(each.passages) for each in candidates),
        *(len(candidates), settings.num_candidates, mode_of(settings), words),
    )
    if none := sum(not each.passages for each in candidates):
        logger.warning("candidates %d questions share no word with any passage: none", none)
