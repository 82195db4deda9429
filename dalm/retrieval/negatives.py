"""Mine hard negatives: passages that rank high for a query and don't answer it."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalm.config import MineNegatives
from dalm.progress import track
from dalm.records import Example, Hit, Passage, normalise, passage_id
from dalm.retrieval.base import Encoder, Searcher
from dalm.retrieval.exact import ExactIndex

BLOCK = 256  # queries searched at once

Reason = Literal["same document", "score"]


@dataclass(frozen=True, slots=True)
class MiningRules:
    """Which candidates may become negatives.

    A candidate is left out if its score is over `max_share` of the gold passage's, or within
    `margin` of it: more often than not it answers the query, too. Moreira et al., 2024,
    arXiv:2407.15831 (TopK-PercPos, TopK-MarginPos). None: no such limit.
    """

    num_negatives: int
    first_rank: int = 1
    last_rank: int = 100
    max_share: float | None = 0.95
    margin: float | None = None
    skip_same_document: bool = True

    @classmethod
    def of(cls, options: MineNegatives) -> "MiningRules":
        """Return the rules that the options of `dalm mine-negatives` set."""
        return cls(
            num_negatives=options.num_negatives,
            first_rank=options.first_rank,
            last_rank=options.last_rank,
            max_share=None if options.max_share == "off" else options.max_share,
            margin=options.margin,
            skip_same_document=options.skip_same_document,
        )

    def limit(self, gold_score: float) -> float:
        """Return the highest score of a negative for a query whose gold passage has this score.

        With s the gold passage's score: min(s - (1 - max_share) · |s|, s - margin), so that the
        limit is below s for a negative s, too.
        """
        limits = [float("inf")]
        if self.max_share is not None:
            limits.append(gold_score - (1 - self.max_share) * abs(gold_score))
        if self.margin is not None:
            limits.append(gold_score - self.margin)
        return min(limits)


@dataclass(frozen=True, slots=True)
class Mined:
    """A query's negatives, best first, and how many other candidates were left out, and why."""

    negatives: tuple[Hit, ...]
    gold_score: float
    candidates: int
    dropped: Counter[Reason] = field(default_factory=Counter)
    outranks_gold: bool = False
    """A candidate of another document scores above the gold passage: the label may be wrong."""


def mine_hard_negatives(
    examples: Sequence[Example],
    encoder: Encoder,
    index: ExactIndex,
    rules: MiningRules,
    *,
    lexical: Searcher | None = None,
    seed: int | None = None,
) -> list[Mined]:
    """Find each example's negatives in `index`, and by `lexical` search over the same passages.

    Every gold passage must be in the index. The gold passages of all examples with the same query,
    as `normalise` compares it, are gold for each of them. With `seed` negatives are drawn at
    random, reproducibly for a row; without, they are the best. Every score is the retriever's
    cosine, also that of a passage found by lexical search.
    """
    golds = _gold_passages(examples)
    queries = list(dict.fromkeys(example.query for example in examples))
    vectors = encoder.encode_queries(queries)
    rows = {query: row for row, query in enumerate(queries)}
    search = CandidateSearch(index, lexical)
    mined: list[Mined] = []
    starts = range(0, len(examples), BLOCK)
    for start in track(starts, len(starts), "mining", "block"):
        block = examples[start : start + BLOCK]
        block_golds = [golds[normalise(example.query)] for example in block]
        block_vectors = vectors[[rows[example.query] for example in block]]
        # Copies of gold passages are found, too, and no negatives: search deeper by their number.
        k = rules.last_rank + max(map(search.count_copies, block_golds))
        rankings = search.rankings([example.query for example in block], block_vectors, k)
        for row, example in enumerate(block):
            assert example.passage is not None
            [gold] = search.hits_of([example.passage], block_vectors[row])
            random = None if seed is None else np.random.default_rng([seed, start + row])
            mined.append(choose_negatives(rankings[row], gold, block_golds[row], rules, random))
    return mined


def _gold_passages(examples: Sequence[Example]) -> dict[str, list[Passage]]:
    """Return the distinct gold passages of each normalised query."""
    golds: dict[str, dict[str, Passage]] = {}
    for example in examples:
        assert example.passage is not None
        golds.setdefault(normalise(example.query), {}).setdefault(
            example.passage.id, example.passage
        )
    return {query: list(passages.values()) for query, passages in golds.items()}


# Candidates


class CandidateSearch:
    """Search passages by their vectors and by their words; score both by their vectors."""

    def __init__(self, index: ExactIndex, lexical: Searcher | None) -> None:
        self.index = index
        self.lexical = lexical
        self.copies = Counter(map(text_key, index.passages))

    def count_copies(self, passages: Sequence[Passage]) -> int:
        """Return how many indexed passages have the text of one of these."""
        return sum(self.copies[key] for key in {text_key(passage) for passage in passages})

    def rankings(
        self, queries: Sequence[str], vectors: Float[Tensor, "B dim"], k: int
    ) -> list[list[list[Hit]]]:
        """Return, for each query, a ranking of at most k for each kind of search."""
        dense = self.index.search(vectors, k)
        if self.lexical is None:
            return [[hits] for hits in dense]
        found = self.lexical.search(queries, k)
        lexical = [
            self.hits_of([hit.passage for hit in hits], vector)
            for hits, vector in zip(found, vectors, strict=True)
        ]
        return [list(rankings) for rankings in zip(dense, lexical, strict=True)]

    def hits_of(self, passages: Sequence[Passage], query: Float[Tensor, "dim"]) -> list[Hit]:
        """Return indexed passages, in their order, as hits of a query's vector."""
        vectors = self.index.vectors_of([passage.id for passage in passages]).float()
        scores = (vectors @ query.to(vectors.device)).tolist()
        return [Hit(passage, score) for passage, score in zip(passages, scores, strict=True)]


@lru_cache(maxsize=1 << 16)
def text_key(passage: Passage) -> str:
    """Return the content hash of a passage's text without the title that may be prepended."""
    title = f"{passage.title}\n"
    if passage.title and passage.text.startswith(title):
        return passage_id(passage.text.removeprefix(title))
    return passage.id


# One query


def choose_negatives(
    rankings: Sequence[Sequence[Hit]],
    gold: Hit,
    golds: Collection[Passage],
    rules: MiningRules,
    random: np.random.Generator | None = None,
) -> Mined:
    """Choose a query's negatives from the rankings of one or several searches, each best first.

    All scores, the gold passage's too, are one retriever's. `golds` are further gold passages of
    the query: like `gold` they are never negatives, whatever rows or titles their text has, and
    they take no rank. Ranks count from 1 in each ranking; the rankings are then interleaved. With
    `random` the negatives are drawn from the candidates that are left; without, they are the first.
    """
    gold_keys = {text_key(passage) for passage in (gold.passage, *golds)}
    candidates = _interleaved([_ranked(hits, gold_keys, rules) for hits in rankings])
    gold_documents = {passage.title for passage in (gold.passage, *golds)} - {""}
    if not rules.skip_same_document:
        gold_documents = set()
    others = [hit for hit in candidates if hit.passage.title not in gold_documents]
    limit = rules.limit(gold.score)
    left = [hit for hit in others if hit.score <= limit]
    dropped: Counter[Reason] = Counter(
        {"same document": len(candidates) - len(others), "score": len(others) - len(left)}
    )
    outranks_gold = any(hit.score > gold.score for hit in others)
    negatives = _sample(left, rules.num_negatives, random)
    return Mined(negatives, gold.score, len(candidates), dropped, outranks_gold)


def _ranked(hits: Sequence[Hit], gold_keys: Collection[str], rules: MiningRules) -> list[Hit]:
    ranking = [hit for hit in hits if text_key(hit.passage) not in gold_keys]
    return ranking[rules.first_rank - 1 : rules.last_rank]


def _interleaved(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Take the first of each ranking, then the second ...; a passage keeps its first place."""
    merged: dict[str, Hit] = {}
    for hit in filter(None, chain.from_iterable(zip_longest(*rankings))):
        merged.setdefault(hit.passage.id, hit)
    return list(merged.values())


def _sample(left: Sequence[Hit], count: int, random: np.random.Generator | None) -> tuple[Hit, ...]:
    sample = left[:count]
    if random is not None and len(left) > count:
        sample = [left[place] for place in random.choice(len(left), count, replace=False)]
    return tuple(sorted(sample, key=lambda hit: -hit.score))
