"""Calibrate an index on questions with known passages: fusion, and when nothing is relevant."""

import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import fmean
from typing import NamedTuple

import numpy as np

from dalm.analyser import terms
from dalm.config import Columns, Index
from dalm.errors import UserError
from dalm.io.examples import read_examples
from dalm.models.retriever import Retriever
from dalm.progress import track
from dalm.records import Hit, Passage, gold_passages, question_id
from dalm.retrieval.base import VectorStore
from dalm.retrieval.example_questions import ExampleQuestion, is_presentable
from dalm.retrieval.hybrid import POOL, on_scale
from dalm.retrieval.relevance import BEST, Relevance, rarity

logger = logging.getLogger(__name__)

WEIGHTS = tuple(step / 20 for step in range(21))
AT = 10
MOST_QUESTIONS = 2_000
FEWEST_QUESTIONS = 20
"""Questions with and without their document among the passages that a threshold needs."""
REFUSED = 0.05
"""Fraction of the answerable questions that fall below the threshold."""
MOST_WORDS = 50_000
BLOCK = 64
MODES = {"dense": 1.0, "text": 0.0}
"""Weight of the dense scores in the modes that don't fuse."""


@dataclass(frozen=True)
class Calibration:
    """Weight of the dense scores, and relevance; None: too few questions."""

    dense_weight: float
    relevance: Relevance | None
    examples: Sequence[ExampleQuestion] = ()
    """Questions whose passage is found first."""


def calibrate(store: VectorStore, retriever: Retriever, settings: Index) -> Calibration:
    """Return the weight with the best MRR@10 on the questions of `--calibrate`, and the relevance.

    Of equally good weights the one nearest to ½ is taken. Of more than `MOST_QUESTIONS` questions
    so many are drawn.

    Raises:
        UserError: no question has its passage in the index.
    """
    words = _Words()
    found = _search(store, retriever, settings, words)
    if not any(row.gold.any() for row in found):
        raise UserError(
            f"--calibrate {settings.calibrate}: no question's passage is found in the index; name "
            "questions on its passages"
        )
    quality = {weight: fmean(row.reciprocal_rank(weight) for row in found) for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: (quality[weight], -abs(weight - 0.5)))
    logger.info(
        "calibrated dense weight %.2f on %d questions: MRR@10 %.3f, dense %.3f, text %.3f",
        *(best, len(found), quality[best], quality[1.0], quality[0.0]),
    )
    first = (row for row in found if row.reciprocal_rank(best) == 1)
    examples = [
        ExampleQuestion(row.query, tuple(compress(row.ids, row.gold)))
        for row in first
        if is_presentable(row.query)
    ]
    return Calibration(best, _relevance(found, words, MODES | {"hybrid": best}), examples)


class _Words:
    """The distinct words of passages as numbers, and in how many passages each occurs."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.of_passage: dict[str, np.ndarray] = {}

    def add(self, passage: Passage) -> None:
        if passage.id not in self.of_passage:
            words = set(terms(passage.text))
            found = (self.numbers.setdefault(word, len(self.numbers)) for word in words)
            self.of_passage[passage.id] = np.fromiter(found, np.int32, len(words))

    def counts(self) -> dict[str, int]:
        """Return the numbers of passages with a word, of the commonest words."""
        names = list(self.numbers)
        found = Counter(n for numbers in self.of_passage.values() for n in numbers.tolist())
        return {names[number]: count for number, count in found.most_common(MOST_WORDS)}


class _Found(NamedTuple):
    """The passages found for a question by vectors and by words, with what is known of them."""

    query: str
    ids: list[str]
    dense: np.ndarray
    """z-scores, as `text`."""
    text: np.ndarray
    similarity: np.ndarray
    """Dense scores; the lowest for passages that the dense ranking lacks."""
    gold: np.ndarray
    same_document: np.ndarray
    """Whether a passage is gold, or of the document of one that is."""

    @classmethod
    def of(
        cls, query: str, gold: Sequence[Passage], dense: Sequence[Hit], text: Sequence[Hit]
    ) -> "_Found":
        passages = {hit.passage.id: hit.passage for hit in (*dense, *text)}
        ids, right = sorted(passages), {passage.id for passage in gold}
        there = [passages[each] for each in right if each in passages]
        documents = {passage.of_document for passage in (*gold, *there)}
        scores = {hit.passage.id: hit.score for hit in dense}
        lowest = min(scores.values(), default=0.0)
        return cls(
            query=query,
            ids=ids,
            dense=np.array(on_scale(dense, ids)),
            text=np.array(on_scale(text, ids)),
            similarity=np.array([scores.get(each, lowest) for each in ids]),
            gold=np.array([each in right for each in ids], bool),
            same_document=np.array(
                [each in right or passages[each].of_document in documents for each in ids], bool
            ),
        )

    def ranking(self, weight: float) -> np.ndarray:
        """Return the positions of the passages, best first."""
        order: np.ndarray = np.argsort(
            -(weight * self.dense + (1 - weight) * self.text), kind="stable"
        )
        return order

    def reciprocal_rank(self, weight: float) -> float:
        """Return 1 / rank of the first gold passage in the fused ranking; 0 beyond `AT`."""
        ranks = np.flatnonzero(self.gold[self.ranking(weight)[:AT]])
        return 1 / (int(ranks[0]) + 1) if len(ranks) else 0.0


def _search(
    store: VectorStore, retriever: Retriever, settings: Index, words: _Words
) -> list[_Found]:
    """Search each question, in blocks: hits hold texts, and those of all would fill the memory."""
    assert settings.calibrate is not None
    columns = Columns(query_column=settings.query_column)
    examples = read_examples(settings.calibrate, columns, needs={"passage"})
    questions = {question_id(example.query): example.query for example in examples}
    golds = gold_passages(examples)
    drawn = sorted(questions)
    if len(drawn) > MOST_QUESTIONS:
        logger.info("calibrates %d questions, drawn of %d", MOST_QUESTIONS, len(drawn))
        drawn = random.Random(0).sample(drawn, MOST_QUESTIONS)
    found: list[_Found] = []
    blocks = [drawn[start : start + BLOCK] for start in range(0, len(drawn), BLOCK)]
    for block in track(blocks, len(drawn), "calibrating", "questions", len):
        queries = [questions[each] for each in block]
        dense = store.search(retriever.encode_queries(queries), POOL)
        text = store.text_search(queries, POOL)
        for name, query, *hits in zip(block, queries, dense, text, strict=True):
            for hit in (*hits[0], *hits[1]):
                words.add(hit.passage)
            found.append(_Found.of(query, golds[name], *hits))
    return found


# Relevance


def _relevance(
    found: Sequence[_Found], words: _Words, modes: Mapping[str, float]
) -> Relevance | None:
    """Fit, for each mode, the relevance of what is found with and without the right document.

    Positive are the best hits of questions whose passage is found, negative those of the same
    questions without the passages of its document.
    """
    asked = [row for row in found if row.gold.any()]
    others = [row for row in asked if not row.same_document.all()]
    if min(len(asked), len(others)) < FEWEST_QUESTIONS:
        logger.info(
            "threshold  none: it needs %d questions with their passage in the index, and other "
            "documents",
            FEWEST_QUESTIONS,
        )
        return None
    relevance = Relevance(len(words.of_passage), words.counts(), {})
    scorer = _Scorer(relevance, words)
    for mode, weight in modes.items():
        names = ["coverage"] if mode == "text" else ["similarity", "coverage"]
        answerable = [scorer.best(row, weight, mode) for row in asked]
        without = [scorer.best(row, weight, mode, without=True) for row in others]
        weights = _fit([each.max(axis=0) for each in answerable], [e.max(axis=0) for e in without])
        values = [
            np.array([_logit(weights, each).max() for each in part])
            for part in (answerable, without)
        ]
        bar = _bar(*values)
        threshold = float(1 / (1 + np.exp(-bar)))
        relevance.modes[mode] = {
            **dict(zip([*names, "bias"], map(float, weights), strict=True)),
            "threshold": threshold,
        }
        logger.info(
            "threshold  %.3f for %s search: refuses %.0f %% of these questions, lets through %.0f "
            "%% of them without the passages of their documents",
            *(threshold, mode, 100 * (values[0] < bar).mean(), 100 * (values[1] >= bar).mean()),
        )
    return relevance


def _bar(answerable: np.ndarray, without: np.ndarray) -> float:
    """Return the value that refuses at most `REFUSED` of the answerable questions.

    It refuses fewer where that lets no further question without its document through: then it lies
    midway between the two values that it parts.
    """
    bar = float(np.quantile(answerable, REFUSED))
    beaten = without[without < bar].max(initial=-np.inf)
    lowest = answerable[answerable > beaten].min(initial=np.inf)
    return float((beaten + lowest) / 2) if np.isfinite(beaten) and lowest < bar else bar


class _Scorer:
    """Compute the similarity and the coverage of the best hits of questions."""

    def __init__(self, relevance: Relevance, words: _Words) -> None:
        self.words = words
        total = relevance.passages
        self.idf = np.array([rarity([name], relevance.counts, total) for name in words.numbers])
        self.relevance = relevance

    def best(self, row: _Found, weight: float, mode: str, *, without: bool = False) -> np.ndarray:
        """Return the features of the best hits, a row each; `without` those of gold documents."""
        order = row.ranking(weight)
        if without:
            order = order[~row.same_document[order]]
        asked = set(terms(row.query))
        numbers = [self.words.numbers[word] for word in asked if word in self.words.numbers]
        total = rarity(asked, self.relevance.counts, self.relevance.passages) or 1.0
        best = []
        for place in order[:BEST]:
            there = np.isin(numbers, self.words.of_passage[row.ids[place]])
            covered = self.idf[np.array(numbers, int)[there]].sum() / total
            best.append([covered] if mode == "text" else [row.similarity[place], covered])
        return np.array(best)


def _logit(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    logit: np.ndarray = features @ weights[:-1] + weights[-1]
    return logit


def _fit(positive: Sequence[np.ndarray], negative: Sequence[np.ndarray]) -> np.ndarray:
    """Return weights and bias of a logistic regression, by Newton's method; both sides weigh ½.

    Features are scaled to variance 1 for a ridge penalty of 1 on their weights, which keeps them
    finite where the sides are separable.
    """
    rows = np.array([*positive, *negative])
    targets = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    shares = np.repeat([0.5 / len(positive), 0.5 / len(negative)], [len(positive), len(negative)])
    shares *= len(rows)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    deviation[deviation == 0] = 1.0
    scaled = np.c_[(rows - mean) / deviation, np.ones(len(rows))]
    penalty = np.append(np.ones(rows.shape[1]), 0.0)
    weights = np.zeros(scaled.shape[1])
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-scaled @ weights))
        slope = scaled.T @ (shares * (predicted - targets)) + penalty * weights
        curvature = (scaled * (shares * predicted * (1 - predicted))[:, None]).T @ scaled
        weights = weights - np.linalg.solve(curvature + np.diag(penalty), slope)
    plain = weights[:-1] / deviation
    return np.append(plain, weights[-1] - (plain * mean).sum())
