"""Select the pairs that pass all filters and find their passage again, and split them.

Log or print which pairs were rejected, and by which filter.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from dalm.config import QaGen
from dalm.display import show
from dalm.ingest.near_duplicates import group_near_duplicates
from dalm.ingest.words import content_words, words
from dalm.io.splits import split_by_document
from dalm.progress import track
from dalm.records import Example, Hit, Passage
from dalm.synth.filters import (
    ASKED_FOR,
    PAIR_FILTERS,
    READABLE,
    SUPPORT,
    apply_filters,
    rejected,
    repeated,
)
from dalm.synth.pairs import Pair, Rejection

logger = logging.getLogger(__name__)

REPEATED, ROUND_TRIP = "question is new", "round trip"
FILTERS = (READABLE, ASKED_FOR, *PAIR_FILTERS, REPEATED, ROUND_TRIP)
"""The names of the filters in their order: the cheapest comes first."""

Search = Callable[[Sequence[str], int], list[list[Hit]]]
"""Return each query's best passages, best first: BM25's, or an embedding model's."""

BLOCK = 1024  # questions whose hits are in memory at once
RELATED = 0.5
"""Fraction of a question's words that another passage must hold, beside the answer."""
SAME_PASSAGE = 0.7
"""Jaccard similarity of two passages' word triples from which they are near duplicates."""
MAX_EXAMPLE = 100  # characters of an example in the log


def searches_of(passages: Sequence[Passage], settings: QaGen) -> Iterator[Search]:
    """Yield the searches of the round trip: BM25, and an embedding model's if one is named."""
    from dalm.retrieval.bm25 import BM25

    if not settings.round_trip_k:
        return
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


def select(
    pairs: Iterable[Pair], searches: Sequence[Search], k: int, rejections: list[Rejection]
) -> list[Pair]:
    """Return the pairs that pass all filters, in their order; `rejections` gets the others.

    With k = 0 there is no round trip.
    """
    sound = apply_filters(pairs, rejections)
    new = []
    for pair, first in zip(sound, repeated([pair.query for pair in sound]), strict=True):
        if first is None:
            new.append(pair)
        else:
            rejections.append(rejected(REPEATED, f"repeats {sound[first].query!r}", pair))
    if not k:
        return new
    passed = []
    for pair in with_ranks(new, searches, k):
        if pair.rank is None:
            reason = f"its passage isn't among the best {k}"
            rejections.append(rejected(ROUND_TRIP, reason, pair))
        else:
            passed.append(pair)
    return passed


def with_ranks(pairs: Sequence[Pair], searches: Sequence[Search], k: int) -> list[Pair]:
    """Return the pairs with their rank and the ids of other passages that seem to answer them.

    The rank is the best one over the searches, None if no search finds the passage among its best
    k. Other passages are recognised by words: they hold the answer and half of the question's
    words. They are neither certain answers nor safe negatives.
    """
    blocks = (pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK))
    found: list[Pair] = []
    for block in track(blocks, len(pairs), "searching with the questions", "questions", len):
        results = [search([pair.query for pair in block], k) for search in searches]
        for pair, *rankings in zip(block, *results, strict=True):
            found.append(_with_rank(pair, rankings))
    return found


def _with_rank(pair: Pair, rankings: Iterable[Sequence[Hit]]) -> Pair:
    ranks, others = [], dict[str, Passage]()
    for hits in rankings:
        for rank, hit in enumerate(hits, 1):
            if hit.passage.id == pair.passage.id:
                ranks.append(rank)
            else:
                others.setdefault(hit.passage.id, hit.passage)
    also = tuple(key for key, passage in others.items() if _answers(passage, pair))
    return replace(pair, rank=min(ranks, default=None), also=also)


def _answers(passage: Passage, pair: Pair) -> bool:
    held = words(passage.text)
    answer = words(pair.answer)
    if len(answer) <= 5:  # a name or a number occurs verbatim
        if f" {' '.join(answer)} " not in f" {' '.join(held)} ":
            return False
    elif _fraction(content_words(pair.answer), held) < SUPPORT:
        return False
    return _fraction(content_words(pair.query), held) >= RELATED


def _fraction(wanted: Sequence[str], held: Sequence[str]) -> float:
    known = set(held)
    return sum(word in known for word in wanted) / max(len(wanted), 1)


def split(
    pairs: Sequence[Pair], passages: Sequence[Passage], test_share: float, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Split by document (see `split_by_document`); near-duplicate passages are one document too.

    Groups are transitive: a passage that resembles two others puts all three into one group. A
    pair with two passages belongs to the document of the first, which is the second's as well.
    """
    if not pairs:
        return [], []
    first = group_near_duplicates([passage.text for passage in passages], SAME_PASSAGE)
    group_of = {p.id: passages[place].id for p, place in zip(passages, first, strict=True)}
    examples = [
        Example(str(place), None, Passage(group_of[p.passage.id], p.passage.text, p.passage.title))
        for place, p in enumerate(pairs)
    ]
    train, test = split_by_document(examples, test_share, seed)
    return ([pairs[int(e.query)] for e in train], [pairs[int(e.query)] for e in test])


def rejection_counts(rejections: Iterable[Rejection]) -> list[tuple[str, int, Rejection]]:
    """Return each filter's name, how many it rejected, and an example, in the filters' order."""
    by_filter = defaultdict[str, list[Rejection]](list)
    for rejection in rejections:
        by_filter[rejection.filter].append(rejection)
    found = ((name, by_filter[name]) for name in FILTERS if name in by_filter)
    return [(name, len(those), those[0]) for name, those in found]


def log_rejections(passed: int, rejections: Sequence[Rejection]) -> None:
    """Log how many pairs each filter rejected, with an example."""
    logger.info("questions  %d passed the filters, %d did not", passed, len(rejections))
    for name, number, example in rejection_counts(rejections):
        text = f"{example.query or example.answer!r} ({example.reason})"
        line = " ".join(text.split())
        if len(line) > MAX_EXAMPLE:
            line = f"{line[: MAX_EXAMPLE - 1]}…"
        logger.info("  %-27s%6d  %s", name, number, line)


def print_preview(pairs: Sequence[Pair], rejections: Sequence[Rejection]) -> None:
    """Print the questions on a few passages, and which of them pass the filters."""
    every: list[Pair | Rejection] = [*pairs, *rejections]
    passages = {each.passage.id: each.passage for each in every}
    for key, passage in passages.items():
        show()
        show(f"passage   {passage.title + ': ' if passage.title else ''}{passage.text}")
        for pair in (each for each in pairs if each.passage.id == key):
            rank = "" if pair.rank is None else f", rank {pair.rank}"
            show(f"+ {pair.kind:8}{pair.query}")
            show(f"  answer  {pair.answer}")
            show(f"  quote   {pair.quote} ({pair.start} to {pair.end}{rank})")
        for rejection in (each for each in rejections if each.passage.id == key):
            show(f"- {rejection.filter}: {rejection.reason}")
            show(f"          {rejection.query or '(nothing readable)'}")
            show(f"  answer  {rejection.answer}")
    show()
    show(f"{len(pairs)} questions passed the filters, {len(rejections)} did not")
