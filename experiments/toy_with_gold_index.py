"""Run experiment 2 over an index: known gold passages, candidates from the whole knowledge base.

The untrained retriever, the generator and the questions of `toy_with_gold.py`; the gold passage of
each question is one of its K candidates, the others are retrieved from an index. The arms vary the
number of candidates, how the index is refreshed, and whether only the query encoder is trained.
"""

from typing import Any

from common import run
from toy_models import RATES, TRAIN, cells, fresh, halves

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
    "independent, seven times as long": {"num_candidates": 1, "max_train_steps": 840},
    "independent, twenty times as long": {"num_candidates": 1, "max_train_steps": 2400},
    "K = 2": INDEX | {"num_candidates": 2},
    "K = 4": INDEX | {"num_candidates": 4},
    "K = 4, seven times as long": INDEX | {"num_candidates": 4, "max_train_steps": 840},
    "K = 8": INDEX,
    "K = 16": INDEX | {"num_candidates": 16},
    "query encoder alone": INDEX | {"train_encoders": "query", "learning_rate": 3e-3},
    "no refresh": INDEX | STILL,
    "re-rank alone": INDEX | STILL | {"over_retrieve": 2},
    "full refresh alone": INDEX | STILL | {"refresh_budget": 0.1},
    "write-back alone": INDEX | STILL | {"write_back": True},
}


if __name__ == "__main__":
    run("toy_with_gold_index", cells(ARMS, SHARED, halves()[2], lambda seed: fresh(seed)[0]))
