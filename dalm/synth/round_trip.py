"""Search with the queries, and tell which retrieve their passage, and which by BM25 alone.

A query that finds its passage by its words alone shows no retriever's gain; one that nothing finds
is a bad query, or a hard one. An unanswerable query must find no passage that answers it.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from dalm.config import QaGen
from dalm.ingest.words import content_words, words
from dalm.progress import track
from dalm.records import Hit, Passage
from dalm.synth.filters import SUPPORT, rejected
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.query_checks import stem

logger = logging.getLogger(__name__)

ROUND_TRIP, ANSWERED_NOWHERE = "round trip", "answered nowhere"
Search = Callable[[Sequence[str], int], list[list[Hit]]]
"""Return each query's best passages, best first: BM25's, or an embedding model's."""

DEPTH = 10  # passages searched for at least, for recall@10
NEARBY = 20  # passages in which the answer to an unanswerable query is looked for
READ = 3  # passages that a judge reads to tell whether an unanswerable query is one
BLOCK = 1024  # queries whose hits are in memory at once
RELATED = 0.5
"""Fraction of a query's words that another passage must hold, beside the answer."""
ANSWERED = 0.8
"""Fraction of an unanswerable query's words from which a passage may well answer it."""
NEAR = 0.3
"""Fraction of an unanswerable query's words that the passage it was made from must hold."""
SATURATED = 0.9
"""BM25's recall@1 from which a test set can't show a retriever's gain."""
FEW = 50  # hard queries with which a difference of 0.1 is still within chance


def searches_of(passages: Sequence[Passage], settings: QaGen) -> Iterator[Search]:
    """Yield BM25's search, then an embedding model's if one is named."""
    from dalm.retrieval.bm25 import BM25

    yield BM25(passages).search
    if settings.retriever_name_or_path:  # only then is torch worth its seconds
        from dalm.models.loading import placement_of
        from dalm.models.retriever import load_retriever, tell_retriever
        from dalm.retrieval.base import DenseSearcher
        from dalm.retrieval.exact import build_index

        placement = replace(placement_of(settings), frozen=True)
        retriever = load_retriever(settings.retriever_name_or_path, placement)
        tell_retriever(retriever)
        yield DenseSearcher(retriever, build_index(retriever, passages)).search


def round_trip(
    pairs: Sequence[Pair], searches: Sequence[Search], k: int, rejections: list[Rejection]
) -> list[Pair]:
    """Return the pairs with their ranks, without those whose passage no search ranks in the top k.

    With k = 0 they all stay. Unanswerable ones stay if none of the best passages may answer them.
    """
    asked = [pair for pair in pairs if pair.answerable]
    ranked = iter(with_ranks(asked, searches, max(k, DEPTH)))
    free = iter(_answered([pair for pair in pairs if not pair.answerable], searches))
    passed = []
    for pair in pairs:
        if not pair.answerable:
            name, reason, found = ANSWERED_NOWHERE, next(free), pair
        else:
            found = next(ranked)
            lost = k and (found.rank is None or found.rank > k)
            name, reason = ROUND_TRIP, f"its passage isn't among the best {k}" if lost else ""
        if reason:
            rejections.append(rejected(name, reason, found))
        else:
            passed.append(found)
    return passed


def with_ranks(pairs: Sequence[Pair], searches: Sequence[Search], k: int) -> list[Pair]:
    """Return the pairs with their ranks and the ids of other passages that seem to answer them.

    The rank is the best one over the searches, None if no search finds the passage among its best
    k; BM25's is that of the first search. Other passages are recognised by words: they hold the
    answer and half of the query's words. They are neither certain answers nor safe negatives.
    """
    blocks = (pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK))
    found: list[Pair] = []
    for block in track(blocks, len(pairs), "searching with the queries", "queries", len):
        results = [search([pair.query for pair in block], k) for search in searches]
        for pair, *rankings in zip(block, *results, strict=True):
            found.append(_with_rank(pair, rankings))
    return found


def _with_rank(pair: Pair, rankings: Iterable[Sequence[Hit]]) -> Pair:
    ranks, others = list[int | None](), dict[str, Passage]()
    for hits in rankings:
        ids = [hit.passage.id for hit in hits]
        ranks.append(ids.index(pair.passage.id) + 1 if pair.passage.id in ids else None)
        others |= {hit.passage.id: hit.passage for hit in hits if hit.passage.id not in others}
    others.pop(pair.passage.id, None)
    also = tuple(key for key, passage in others.items() if _answers(passage, pair))
    best = min((rank for rank in ranks if rank), default=None)
    return replace(pair, rank=best, bm25_rank=ranks[0] if ranks else None, also=also)


def _answers(passage: Passage, pair: Pair) -> bool:
    held = words(passage.text)
    answer = words(pair.answer)
    if len(answer) <= 5:  # a name or a number occurs verbatim
        if f" {' '.join(answer)} " not in f" {' '.join(held)} ":
            return False
    elif _fraction(content_words(pair.answer), held) < SUPPORT:
        return False
    return _fraction(content_words(pair.query), held) >= RELATED


def _fraction(wanted: Collection[str], held: Iterable[str]) -> float:
    known = set(held)
    return sum(word in known for word in wanted) / max(len(wanted), 1)


def _answered(pairs: Sequence[Pair], searches: Sequence[Search]) -> Iterator[str]:
    """Yield for each query that should have no answer why it may have one, or is far off.

    By words, as far as they can tell: a passage that holds nearly all of them may answer it.
    """
    results = [search([pair.query for pair in pairs], NEARBY) for search in searches if pairs]
    for place, pair in enumerate(pairs):
        wanted = set(map(stem, content_words(pair.query)))
        near = {pair.passage.id: pair.passage}
        near |= {hit.passage.id: hit.passage for hits in results for hit in hits[place]}
        shares = {key: _fraction(wanted, map(stem, words(p.text))) for key, p in near.items()}
        likeliest = max(shares, key=lambda key: shares[key])
        if shares[likeliest] >= ANSWERED:
            yield f"passage {likeliest} holds its words, and may answer it"
        elif shares[pair.passage.id] < NEAR:
            yield "its passage is about something else"
        else:
            yield ""


def passages_near(pairs: Sequence[Pair], search: Search) -> dict[str, list[Passage]]:
    """Return the passages that unanswerable queries find, by the query, for a judge to read."""
    queries = [pair.query for pair in pairs if not pair.answerable]
    found = search(queries, READ) if queries else []
    return {q: [hit.passage for hit in hits] for q, hits in zip(queries, found, strict=True)}


def log_difficulty(pairs: Sequence[Pair], k: int, *, are_test: bool) -> None:
    """Log how much of a set BM25 solves alone, and of a test set if its hard part is too small."""
    asked, which = [pair for pair in pairs if pair.answerable], "test " * are_test
    if not asked:
        return
    ranks = [pair.bm25_rank or DEPTH + 1 for pair in asked]
    first, ten = (sum(rank <= most for rank in ranks) / len(asked) for most in (1, DEPTH))
    through = f" (of those that --round-trip-k {k} let through)" if k else ""
    logger.info(
        "BM25       recall@1 %.3f, recall@10 %.3f on the %d %squeries%s",
        *(first, ten, len(asked), which, through),
    )
    if first >= SATURATED:
        logger.warning(
            "BM25 alone ranks %.0f %% of the %squeries' passages first: no retriever can show a "
            "gain on them; generate them with a model, which asks in other words (--backend http), "
            "or evaluate on questions that people have asked",
            *(100 * first, which),
        )
    hard = sum(pair.hard for pair in asked)
    if are_test and hard < FEW:
        logger.warning(
            "%d test queries are hard (BM25 doesn't rank their passage first): fewer than the %d "
            "that a figure of their own takes; raise --test-share, or generate more",
            *(hard, FEW),
        )
