"""Find the weight of dense scores in hybrid search on questions whose passages are known."""

import logging
from collections.abc import Collection, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from dalm.config import Columns, Index
from dalm.errors import UserError
from dalm.io.examples import read_examples
from dalm.models.retriever import Retriever
from dalm.records import Hit, gold_passages, question_id
from dalm.retrieval.base import VectorStore
from dalm.retrieval.hybrid import POOL, on_scale

logger = logging.getLogger(__name__)

WEIGHTS = tuple(step / 20 for step in range(21))
AT = 10


def calibrate(store: VectorStore, retriever: Retriever, settings: Index) -> float:
    """Return the weight with the best MRR@10 on the questions of `--calibrate`.

    Of equally good weights the one nearest to ½ is taken.

    Raises:
        UserError: no question has its passage in the index.
    """
    assert settings.calibrate is not None
    columns = Columns(query_column=settings.query_column)
    examples = read_examples(settings.calibrate, columns, needs={"passage"})
    questions = {question_id(example.query): example.query for example in examples}
    golds = {
        question: {passage.id for passage in passages}
        for question, passages in gold_passages(examples).items()
    }
    queries = list(questions.values())
    dense = store.search(retriever.encode_queries(queries), POOL)
    text = store.text_search(queries, POOL)
    rows = [
        _Scored.of(golds[question], *found)
        for question, *found in zip(questions, dense, text, strict=True)
    ]
    if not any(row.gold.any() for row in rows):
        raise UserError(
            f"--calibrate {settings.calibrate}: no question's passage is found in the index; name "
            "questions on its passages"
        )
    quality = {weight: fmean(row.reciprocal_rank(weight) for row in rows) for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: (quality[weight], -abs(weight - 0.5)))
    logger.info(
        "calibrated dense weight %.2f on %d questions: MRR@10 %.3f, dense %.3f, text %.3f",
        *(best, len(rows), quality[best], quality[1.0], quality[0.0]),
    )
    return best


class _Scored(NamedTuple):
    """The passages found for a question: z-scores in both rankings, and which are gold."""

    dense: np.ndarray
    text: np.ndarray
    gold: np.ndarray

    @classmethod
    def of(cls, gold: Collection[str], dense: Sequence[Hit], text: Sequence[Hit]) -> "_Scored":
        ids = sorted({hit.passage.id for hit in (*dense, *text)})
        scores = [np.array(on_scale(ranking, ids)) for ranking in (dense, text)]
        return cls(scores[0], scores[1], np.array([each in gold for each in ids], bool))

    def reciprocal_rank(self, weight: float) -> float:
        """Return 1 / rank of the first gold passage in the fused ranking; 0 beyond `AT`."""
        order = np.argsort(-(weight * self.dense + (1 - weight) * self.text), kind="stable")[:AT]
        ranks = np.flatnonzero(self.gold[order])
        return 1 / (int(ranks[0]) + 1) if len(ranks) else 0.0
