"""Find questions that repeat others, and groups of near-duplicate passages."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil

from dalm.ingest.near_duplicates import group_near_duplicates
from dalm.ingest.words import words

SAME_QUERY = 0.8
"""Jaccard similarity |A ∩ B| / |A ∪ B| of two questions' words from which one repeats the other."""
SAME_PASSAGE = 0.7
"""The same of two passages' word triples, as MinHash estimates it."""


def repeated(queries: Sequence[str]) -> list[int | None]:
    """Return for each question the index of the first one that it repeats, or None.

    A question that is repeated repeats no other one itself. Exact, without comparing all pairs:
    two sets of similarity t share a word among the first ⌊(1 - t)·n⌋ + 1 of either's n words,
    the rarest first (prefix filtering: Chaudhuri et al., 2006).
    """
    sets = [frozenset(words(query)) for query in queries]
    counts = Counter(word for each in sets for word in each)
    kept: defaultdict[str, list[int]] = defaultdict(list)
    found: list[int | None] = []
    for place, each in enumerate(sets):
        rarest = sorted(each, key=lambda word: (counts[word], word))
        first = rarest[: len(rarest) - ceil(SAME_QUERY * len(rarest)) + 1]
        rivals = {rival for word in first for rival in kept[word]}
        same = min((rival for rival in rivals if _is_repetition(each, sets[rival])), default=None)
        found.append(same)
        if same is None:
            for word in first:
                kept[word].append(place)
    return found


def _is_repetition(one: frozenset[str], other: frozenset[str]) -> bool:
    shared = len(one & other)
    return shared >= SAME_QUERY * (len(one) + len(other) - shared)


def near_duplicate_groups(texts: Sequence[str]) -> list[int]:
    """Return for each passage the index of the first passage of its group of near duplicates.

    Groups are transitive: a passage that resembles two others puts all three into one group.
    """
    return group_near_duplicates(texts, SAME_PASSAGE)
