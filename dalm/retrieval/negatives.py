"""Mine hard negatives: passages that rank high for a query and don't answer it.

What may become a negative is set by the options of `dalm mine-negatives`: `rules` below.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dalm.config import MineNegatives
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.io.examples import read_passages
from dalm.io.table_files import kind
from dalm.io.tables import Table
from dalm.io.writers import columns_with_negatives, write_table
from dalm.next_step import log_next
from dalm.progress import track
from dalm.records import (
    Example,
    Hit,
    Passage,
    distinct_by_id,
    gold_passages,
    passage_id,
    question_id,
)
from dalm.retrieval.base import Encoder, Searcher
from dalm.retrieval.exact import ExactIndex

logger = logging.getLogger(__name__)

BLOCK = 256  # queries searched at once
_WITHOUT_LISTS = (".csv", ".tsv")  # formats that hold no lists

Reason = Literal["same document", "score"]


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
    rules: MineNegatives,
    lexical: Searcher | None = None,
) -> list[Mined]:
    """Find each example's negatives in `index`, and by `lexical` search over the same passages.

    Every gold passage must be in the index. The gold passages of all examples with the same
    question (`question_id`) are gold for each of them. Negatives drawn at random are the same
    for a row and a seed. Every score is the retriever's similarity, also that of a passage found by
    lexical search.
    """
    golds = gold_passages(examples)
    queries = list(dict.fromkeys(example.query for example in examples))
    vectors = encoder.encode_queries(queries)
    rows = {query: row for row, query in enumerate(queries)}
    search = CandidateSearch(index, lexical)
    mined: list[Mined] = []
    blocks = ((start, examples[start : start + BLOCK]) for start in range(0, len(examples), BLOCK))
    size = lambda numbered: len(numbered[1])  # noqa: E731
    for start, block in track(blocks, len(examples), "mining", "questions", size):
        block_golds = [golds[question_id(example.query)] for example in block]
        block_vectors = vectors[[rows[example.query] for example in block]]
        # Copies of gold passages are found, too, and no negatives: search deeper by their number.
        k = rules.last_rank + max(map(search.count_copies, block_golds))
        rankings = search.rankings([example.query for example in block], block_vectors, k)
        for row, example in enumerate(block):
            assert example.passage is not None
            [gold] = search.hits_of([example.passage], block_vectors[row])
            random = None
            if rules.sampling == "random":
                random = np.random.default_rng([rules.seed, start + row])
            mined.append(choose_negatives(rankings[row], gold, block_golds[row], rules, random))
    return mined


# Candidates


def passages_to_search(examples: Sequence[Example], options: MineNegatives) -> list[Passage]:
    """Return the distinct passages to search: those of the questions and of `--passages`.

    Raises:
        UserError: there is only one.
    """
    passages = [example.passage for example in examples if example.passage is not None]
    for source in options.passages or ():
        passages += read_passages(source, options)
    distinct = distinct_by_id(passages)
    if len(distinct) < 2:
        raise UserError(
            "there is only one distinct passage, and so no negative; add tables of passages with "
            "--passages"
        )
    logger.info("searching  %d passages", len(distinct))
    return distinct


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
    rules: MineNegatives,
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
    others = candidates
    if rules.skip_same_document:
        right = (gold.passage, *golds)
        others = [
            hit for hit in candidates if not any(_share_document(hit.passage, g) for g in right)
        ]
    limit = score_limit(gold.score, rules)
    left = [hit for hit in others if hit.score <= limit]
    dropped: Counter[Reason] = Counter(
        {"same document": len(candidates) - len(others), "score": len(others) - len(left)}
    )
    outranks_gold = any(hit.score > gold.score for hit in others)
    negatives = _sample(left, rules.num_negatives, random)
    return Mined(negatives, gold.score, len(candidates), dropped, outranks_gold)


def _share_document(one: Passage, other: Passage) -> bool:
    """Return whether two passages are of one document, by its id, or else by its title."""
    if one.document and other.document:
        return one.document == other.document
    return bool(one.title) and one.title == other.title


def score_limit(gold_score: float, rules: MineNegatives) -> float:
    """Return the highest score of a negative for a query whose gold passage has this score.

    What scores over `max_share` of the gold passage's score s, or within `margin` of it, more often
    than not answers the query, too. The limit is min(s - (1 - max_share) · |s|, s - margin), below
    s for a negative s, too. Moreira et al., 2024, arXiv:2407.15831 (TopK-PercPos, TopK-MarginPos).
    """
    limits = [float("inf")]
    if rules.max_share != "off":
        limits.append(gold_score - (1 - rules.max_share) * abs(gold_score))
    if rules.margin is not None:
        limits.append(gold_score - rules.margin)
    return min(limits)


def _ranked(hits: Sequence[Hit], gold_keys: Collection[str], rules: MineNegatives) -> list[Hit]:
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


# The table that is written


def write_mined_table(output: Path, table: Table, mined: Mapping[int, Mined]) -> None:
    """Write a table with its rows' negatives and scores; rows that weren't mined have none."""
    hits = [mined[row].negatives if row in mined else () for row in range(table.rows)]
    columns = columns_with_negatives(
        table,
        [[hit.passage.text for hit in row] for row in hits],
        [[hit.score for hit in row] for row in hits],
        [mined[row].gold_score if row in mined else None for row in range(table.rows)],
        numbered=kind(output) in _WITHOUT_LISTS,
    )
    write_table(output, columns)


def log_summary(mined: Sequence[Mined], options: MineNegatives) -> None:
    """Log how many negatives there are, what was left out, and the next command."""
    counts = [len(each.negatives) for each in mined]
    logger.info(
        "mined      %d negatives for %d questions: %d of them have all %d, %d have none",
        *(sum(counts), len(mined), counts.count(options.num_negatives), options.num_negatives),
        counts.count(0),
    )
    dropped: Counter[Reason] = sum((each.dropped for each in mined), Counter())
    logger.info(
        "left out   of %d candidates: %d from the gold passage's document, %d scored too near it",
        sum(each.candidates for each in mined),
        *(dropped[reason] for reason in ("same document", "score")),
    )
    logger.info(
        "suspects   for %d questions a passage of another document scores above the gold passage: "
        "it may be an answer, too",
        sum(each.outranks_gold for each in mined),
    )
    if not any(counts):
        logger.warning(
            "no negatives are left; try --max-share off, --no-skip-same-document, --passages"
        )
    logger.info("table      %s", options.output)
    output = user_path(options.output)
    log_next(
        [
            *("train-retriever-only", options.retriever_name_or_path, options.output),
            *("--output-dir", output.with_name(f"{output.stem}-tuned")),
            *["--prepend-title"] * options.prepend_title,
            *["--trust-remote-code"] * options.trust_remote_code,
        ]
    )
