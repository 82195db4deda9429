"""Run experiment 1: joint training without gold passages, on a domain whose truth is known.

Questions and answers of half of the toy domain's places, the passages of those places as the
knowledge base, a retriever that has learnt the wrong jargon, and a generator that can answer from
passages. The metrics are retrieval of held-out documents before and after.
"""

from common import run
from toy_models import RATES, TRAIN, cells, halves, misaligned

SHARED = {
    **RATES,
    "max_train_steps": 120,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-4,
    "generator_learning_rate": 3e-4,
    "candidates": "index",
    "passages": [TRAIN],
    "num_candidates": 8,
    "marginal_temperature": 0.1,
    "over_retrieve": 1,
}
WRITTEN = {"write_back": True}
ARMS = {
    "before": None,
    "generator only": {"train_encoders": "none"},
    "rag_sequence": WRITTEN | {"objective": "rag_sequence"},
    "rag_token": WRITTEN | {"objective": "rag_token"},
    "emdr2": WRITTEN | {"objective": "emdr2"},
    "pdist": WRITTEN | {"objective": "pdist"},
    "lsr": WRITTEN | {"objective": "lsr"},
}
STILL = {"refresh_budget": 0.0}
VARIANTS = {
    "query encoder alone": {"train_encoders": "query", "learning_rate": 3e-3},
    "no refresh": STILL,
    "re-rank alone": STILL | {"over_retrieve": 2},
    "full refresh alone": {"refresh_budget": 0.1},
    "write-back alone": STILL | WRITTEN,
    "K = 2": WRITTEN | {"num_candidates": 2},
    "K = 4": WRITTEN | {"num_candidates": 4},
    "K = 16": WRITTEN | {"num_candidates": 16},
}
"""Arms of rag_sequence with one change each."""


if __name__ == "__main__":
    variants = {name: {"objective": "rag_sequence"} | given for name, given in VARIANTS.items()}
    for arms in (ARMS, variants):
        run("toy_without_gold", cells(arms, SHARED, halves()[1], misaligned))
