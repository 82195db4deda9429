"""Experiment 2, second half: gold passages known, candidates from the whole knowledge base.

The untrained retriever, the reader and the questions of `toy_with_gold.py`; the gold passage of
each question is put among its K candidates, the others are found in an index. What is asked: how
many candidates, how the index is kept fresh, and whether the query encoder alone is enough.
"""

from collections.abc import Iterator
from typing import Any

from common import SEEDS, run
from toy_models import RATES, TEST, TRAIN, fresh, halves, reader

SHARED = {
    **RATES,
    "max_train_steps": 120,
    "generator_learning_rate": 3e-4,
    "marginal_temperature": 0.1,
}
INDEX = {
    "objective": "rag_sequence",
    "candidates": "index",
    "passages": [TRAIN],
    "num_candidates": 8,
}
STILL = {"refresh_budget": 0.0, "over_retrieve": 1}
ARMS: dict[str, dict[str, Any] | None] = {
    "zero-shot": None,
    "independent": {"num_candidates": 1},
    "K = 2": INDEX | {"num_candidates": 2},
    "K = 4": INDEX | {"num_candidates": 4},
    "K = 8": INDEX,
    "K = 16": INDEX | {"num_candidates": 16},
    "query encoder alone": INDEX | {"train_encoders": "query", "learning_rate": 3e-3},
    "no refresh": INDEX | STILL,
    "re-rank alone": INDEX | STILL | {"over_retrieve": 2},
    "full refresh alone": INDEX | STILL | {"refresh_budget": 0.1},
    "write-back alone": INDEX | STILL | {"write_back": True},
}


def cells() -> Iterator[dict[str, Any]]:
    for seed in SEEDS:
        for name, given in ARMS.items():
            yield {
                "name": name,
                "seed": seed,
                "table": halves()[2],
                "test": TEST,
                "retriever": fresh(seed)[0],
                "generator": reader(seed),
                "options": None if given is None else SHARED | given,
            }


if __name__ == "__main__":
    run("toy_with_gold_index", cells())
