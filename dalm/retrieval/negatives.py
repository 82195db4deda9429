"""Hard negatives: hits and gold passages in, passages that are near and don't answer out."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalm.progress import track
from dalm.records import Example, Hit, Passage, normalise, passage_id
from dalm.retrieval.base import Encoder
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.exact import Index

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


# FOLDED neighbours.py: Examples in, the hard negatives of each out: the searches that `mining` chooses from.

BLOCK = 256  # queries searched at once


def mine_examples(
    examples: Sequence[Example],
    retriever: Encoder,
    index: Index,
    rules: Rules,
    *,
    lexical: BM25 | None = None,
    seed: int | None = None,
) -> list[Mined]:
    """Find each example's negatives in `index`, and in `lexical` over the same passages.

    Every gold passage stands in the index. The gold passages of all examples with the same
    question, as `normalise` compares it, are answers to each of them. With `seed` negatives are
    drawn at random, alike for alike rows; without, they are the best. Every score is the
    retriever's cosine, that of a passage found by its words too.
    """
    golds = _golds(examples)
    queries = list(dict.fromkeys(example.query for example in examples))
    vectors = retriever.encode_queries(queries)
    places = {query: place for place, query in enumerate(queries)}
    neighbours = Neighbours(index, lexical)
    mined: list[Mined] = []
    for start in track(
        range(0, len(examples), BLOCK), -(-len(examples) // BLOCK), "mining", "block"
    ):
        part = examples[start : start + BLOCK]
        known = [golds[normalise(example.query)] for example in part]
        k = rules.last_rank + max(map(neighbours.copies_of, known))
        asked = vectors[[places[example.query] for example in part]]
        found = neighbours.rankings([example.query for example in part], asked, k)
        for row, (example, vector, rankings, answers) in enumerate(
            zip(part, asked, found, known, strict=True), start
        ):
            assert example.passage is not None
            [gold] = neighbours.scored([example.passage], vector)
            random = None if seed is None else np.random.default_rng([seed, row])
            mined.append(mine(rankings, gold, answers, rules, random))
    return mined


def _golds(examples: Sequence[Example]) -> dict[str, list[Passage]]:
    golds: dict[str, dict[str, Passage]] = {}
    for example in examples:
        assert example.passage is not None
        known = golds.setdefault(normalise(example.query), {})
        known.setdefault(example.passage.id, example.passage)
    return {query: list(known.values()) for query, known in golds.items()}


class Neighbours:
    """Search passages by their vectors and by their words; score both by their vectors."""

    def __init__(self, index: Index, lexical: BM25 | None) -> None:
        self.index = index
        self.lexical = lexical
        self.places = {passage.id: place for place, passage in enumerate(index.passages)}
        self.copies = Counter(map(text_key, index.passages))

    def copies_of(self, passages: Sequence[Passage]) -> int:
        """Return how many indexed passages have the text of one of these."""
        return sum(self.copies[key] for key in {text_key(passage) for passage in passages})

    def rankings(
        self, queries: Sequence[str], vectors: Float[Tensor, "B dim"], k: int
    ) -> list[list[list[Hit]]]:
        """Return, for each query, a ranking of at most k for each kind of search."""
        scores, rows = self.index.search(vectors, k)
        dense = [
            [Hit(self.index.passages[row], score) for score, row in zip(*line, strict=True)]
            for line in zip(scores.tolist(), rows.tolist(), strict=True)
        ]
        if self.lexical is None:
            return [[hits] for hits in dense]
        found = self.lexical.search(queries, k)
        by_words = [
            self.scored([hit.passage for hit in hits], vector)
            for hits, vector in zip(found, vectors, strict=True)
        ]
        return [list(rankings) for rankings in zip(dense, by_words, strict=True)]

    def scored(self, passages: Sequence[Passage], vector: Float[Tensor, "dim"]) -> list[Hit]:
        """Return indexed passages in their order as hits of a query."""
        vectors = self.index.vectors[[self.places[passage.id] for passage in passages]].float()
        scores = (vectors @ vector.to(vectors.device)).tolist()
        return [Hit(passage, score) for passage, score in zip(passages, scores, strict=True)]
