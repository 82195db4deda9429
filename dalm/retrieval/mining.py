"""Hard negatives: hits and gold passages in, passages that are near and don't answer out."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Literal

import numpy as np

from dalm.records import Hit, Passage, passage_id

Reason = Literal["same document", "score"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What may become a negative.

    A candidate is left out if its score is over `max_share` of the gold passage's, or within
    `margin` of it: it answers the question too, more often than not. Moreira et al., 2024,
    arXiv:2407.15831 (TopK-PercPos, TopK-MarginPos). None: not looked at.
    """

    num_negatives: int
    first_rank: int = 1
    last_rank: int = 100
    max_share: float | None = 0.95
    margin: float | None = None
    skip_same_document: bool = True

    def limit(self, gold_score: float) -> float:
        """Return the highest score of a negative beside a gold passage of this score.

        With s the gold passage's score: min(s - (1 - max_share) · |s|, s - margin). So a share of
        a negative score, too, lies below it.
        """
        limits = [float("inf")]
        if self.max_share is not None:
            limits.append(gold_score - (1 - self.max_share) * abs(gold_score))
        if self.margin is not None:
            limits.append(gold_score - self.margin)
        return min(limits)


@dataclass(frozen=True, slots=True)
class Mined:
    """A question's negatives, best first, and what became of the other candidates."""

    negatives: tuple[Hit, ...]
    gold_score: float
    candidates: int
    dropped: Counter[Reason] = field(default_factory=Counter)
    outranks_gold: bool = False
    """A candidate of another document scores above the gold passage: the label may be wrong."""


def mine(
    rankings: Sequence[Sequence[Hit]],
    gold: Hit,
    others: Collection[Passage],
    rules: Rules,
    random: np.random.Generator | None = None,
) -> Mined:
    """Choose a question's negatives from what one or several searches found, each best first.

    All scores, the gold passage's too, are one retriever's. `others` are further gold passages of
    the question: like the gold one they are never negatives, whatever rows or titles their text
    stands under, and they hold no rank. Ranks count from 1 in each ranking; the rankings are then
    merged in turns, one place of each after the other. With `random` the negatives are drawn from
    what is left; without, they are its first.
    """
    answers = {text_key(passage) for passage in (gold.passage, *others)}
    candidates = _merged([_ranked(hits, answers, rules) for hits in rankings])
    documents = {passage.title for passage in (gold.passage, *others)} - {""}
    if not rules.skip_same_document:
        documents = set()
    elsewhere = [hit for hit in candidates if hit.passage.title not in documents]
    limit = rules.limit(gold.score)
    left = [hit for hit in elsewhere if hit.score <= limit]
    dropped: Counter[Reason] = Counter(
        {"same document": len(candidates) - len(elsewhere), "score": len(elsewhere) - len(left)}
    )
    outranked = any(hit.score > gold.score for hit in elsewhere)
    chosen = _chosen(left, rules.num_negatives, random)
    return Mined(chosen, gold.score, len(candidates), dropped, outranked)


@lru_cache(maxsize=1 << 16)
def text_key(passage: Passage) -> str:
    """Return the content hash of a passage's text without the title that may stand before it."""
    title = f"{passage.title}\n"
    if passage.title and passage.text.startswith(title):
        return passage_id(passage.text.removeprefix(title))
    return passage.id


def _ranked(hits: Sequence[Hit], answers: Collection[str], rules: Rules) -> list[Hit]:
    ranking = [hit for hit in hits if text_key(hit.passage) not in answers]
    return ranking[rules.first_rank - 1 : rules.last_rank]


def _merged(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Take the rankings' places in turns; a passage keeps its first place."""
    merged: dict[str, Hit] = {}
    for hit in filter(None, chain.from_iterable(zip_longest(*rankings))):
        merged.setdefault(hit.passage.id, hit)
    return list(merged.values())


def _chosen(left: Sequence[Hit], count: int, random: np.random.Generator | None) -> tuple[Hit, ...]:
    chosen = left[:count]
    if random is not None and len(left) > count:
        chosen = [left[place] for place in random.choice(len(left), count, replace=False)]
    return tuple(sorted(chosen, key=lambda hit: -hit.score))
