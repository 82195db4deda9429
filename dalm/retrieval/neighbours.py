"""Examples in, the hard negatives of each out: the searches that `mining` chooses from."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalm.progress import track
from dalm.records import Example, Hit, Passage, normalise
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.index import Index
from dalm.retrieval.mining import Mined, Rules, mine, text_key
from dalm.retrieval.search import Encoder

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
