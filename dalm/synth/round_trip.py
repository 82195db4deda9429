"""Search with the questions: pairs in, the rank of each one's passage and its rivals out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from dalm.ingest.words import content_words, words
from dalm.progress import track
from dalm.records import Hit, Passage
from dalm.synth.filters import SUPPORT
from dalm.synth.pairs import Pair

Search = Callable[[Sequence[str], int], list[list[Hit]]]
"""Return each query's best passages, best first: BM25's, or an embedding model's."""

BLOCK = 1024  # questions whose hits are in memory at once
RELATED = 0.5
"""Share of a question's words that a rival passage must hold, beside the answer."""


def searched(pairs: Sequence[Pair], searches: Sequence[Search], k: int) -> list[Pair]:
    """Return the pairs with their rank and the ids of other passages that answer them as well.

    The rank is the best one over the searches, None if no search finds the passage among its best
    k. What is said of the other passages is a guess from words: they hold the answer and half of
    the question. They are no sure answers, and no safe negatives.
    """
    blocks = range(0, len(pairs), BLOCK)
    judged: list[Pair] = []
    for start in track(blocks, len(blocks), "searching with the questions", "block"):
        block = pairs[start : start + BLOCK]
        found = [search([pair.query for pair in block], k) for search in searches]
        for pair, *rankings in zip(block, *found, strict=True):
            judged.append(_judged(pair, rankings))
    return judged


def _judged(pair: Pair, rankings: Iterable[Sequence[Hit]]) -> Pair:
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
    if len(answer) <= 5:  # a name or a number stands there as it is
        if f" {' '.join(answer)} " not in f" {' '.join(held)} ":
            return False
    elif _share(content_words(pair.answer), held) < SUPPORT:
        return False
    return _share(content_words(pair.query), held) >= RELATED


def _share(wanted: Sequence[str], held: Sequence[str]) -> float:
    there = set(held)
    return sum(word in there for word in wanted) / max(len(wanted), 1)
