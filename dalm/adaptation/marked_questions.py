"""Find the passages of people's questions in the documents: the one given, or by the answer."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from dalm.ingest.words import words
from dalm.records import Example, Passage
from dalm.retrieval.bm25 import BM25
from dalm.teachers.answer_match import contains

logger = logging.getLogger(__name__)

CANDIDATES = 32
"""Passages that are searched for each question, as `dalm score-candidates` does by default."""
ALIKE = 0.5
"""Fraction of the words of the shorter of two passages that the longer must have to be the same."""


def placed_in(examples: Sequence[Example], passages: Mapping[str, Passage]) -> list[Example]:
    """Return the questions whose passage is found in the documents, each with it.

    A passage that was given is found again by its words, as documents are split in another way: the
    candidate that holds the answer and most of these words. Without one it is the first candidate
    of a search by question and answer that holds the answer (answer match), else the first of all:
    as `dalm train-retriever-only --passages` marks them.
    """
    searched = list(passages.values())
    search = BM25(searched)
    texts = [
        each.passage.text if each.passage else f"{each.query}\n{each.answer or ''}"
        for each in examples
    ]
    found: list[Passage | None] = []
    first: list[Passage | None] = []
    for example, hits in zip(examples, search.search(texts, CANDIDATES), strict=True):
        candidates = [hit.passage for hit in hits]
        found.append(_passage_of(example, candidates, passages))
        is_open = example.passage is None and bool(example.answer)
        first.append(candidates[0] if candidates and is_open else None)
    unmarked = [place for place, each in enumerate(examples) if each.passage is None]
    labelled = sum(found[place] is not None for place in unmarked)
    if unmarked:
        logger.info(
            "marked     %d of %d questions without a passage by the first passage found that has "
            "the answer in it, the others by the first one found",
            *(labelled, len(unmarked)),
        )
    found = [each or other for each, other in zip(found, first, strict=True)]
    if given := len(examples) - len(unmarked):
        again = sum(
            p is not None and e.passage is not None for p, e in zip(found, examples, strict=True)
        )
        logger.info("placed     %d of %d passages found again in the documents", again, given)
    return [
        replace(example, passage=passage)
        for example, passage in zip(examples, found, strict=True)
        if passage is not None
    ]


def _passage_of(
    example: Example, candidates: Sequence[Passage], passages: Mapping[str, Passage]
) -> Passage | None:
    given = example.passage
    if given is None:
        holding = (each for each in candidates if contains(each.text, example.answer or ""))
        return next(holding, None)
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
