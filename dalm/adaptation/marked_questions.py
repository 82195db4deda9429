"""Find the passages of people's questions in the documents: the one given, or by the answer."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from dalm.ingest.words import words
from dalm.records import Example, Passage
from dalm.retrieval.bm25 import BM25
from dalm.teachers.answer_match import contains
from dalm.teachers.marked_examples import mark
from dalm.teachers.teacher import Candidates

logger = logging.getLogger(__name__)

CANDIDATES = 32
"""Passages among which a given one is looked for."""
ALIKE = 0.5
"""Fraction of the words of the shorter of two passages that the longer must have to be the same."""


def placed_in(examples: Sequence[Example], passages: Mapping[str, Passage]) -> list[Example]:
    """Return the questions whose passage is found in the documents, each with it.

    A passage that was given is found again by its words, as documents are split in another way: the
    candidate that holds the answer and most of these words. Questions without one are marked by
    their answers (`marked_examples.mark`), if they have any.
    """
    given = [each for each in examples if each.passage]
    unmarked = [
        Candidates(each.query, each.answer, ())
        for each in examples
        if each.answer and not each.passage
    ]
    found_again = iter(_found_again(given, passages) if given else ())
    marked = iter(mark(unmarked, list(passages.values())) if unmarked else ())
    placed: list[Example] = []
    for each in examples:
        source = found_again if each.passage else marked if each.answer else iter(())
        if passage := next(source, None):
            placed.append(replace(each, passage=passage))
    return placed


def _found_again(
    examples: Sequence[Example], passages: Mapping[str, Passage]
) -> list[Passage | None]:
    """Return the passage of the documents that each example's own is; None: none is."""
    texts = [each.passage.text for each in examples if each.passage]
    search = BM25(list(passages.values())).search(texts, CANDIDATES)
    found = [
        _same(example, [hit.passage for hit in hits], passages)
        for example, hits in zip(examples, search, strict=True)
    ]
    again = len(found) - found.count(None)
    logger.info("placed     %d of %d passages found again in the documents", again, len(found))
    return found


def _same(
    example: Example, candidates: Sequence[Passage], passages: Mapping[str, Passage]
) -> Passage | None:
    given = example.passage
    assert given is not None
    if given.id in passages:
        return passages[given.id]
    alike = {each.id: _shared(given.text, each.text) for each in candidates}
    holds = {each.id: contains(each.text, example.answer or "") for each in candidates}
    near = [each for each in candidates if alike[each.id] >= ALIKE or holds[each.id]]
    near = [each for each in near if alike[each.id] >= ALIKE / 2]
    return max(near, key=lambda each: (holds[each.id], alike[each.id]), default=None)


@lru_cache(maxsize=1 << 12)
def _words(text: str) -> frozenset[str]:
    return frozenset(words(text))


def _shared(text: str, other: str) -> float:
    one, two = _words(text), _words(other)
    return len(one & two) / max(1, min(len(one), len(two)))
