"""Run experiment 2: the toy domain with known gold passages, at equal steps and batch size.

An untrained retriever and a generator that can answer from passages, on the questions of half of
the places with their passages; candidates are in-batch.
"""

from collections.abc import Iterator
from typing import Any

from common import run
from toy_models import RATES, cells, fresh, halves

SHARED = {
    **RATES,
    "max_train_steps": 200,
    "generator_learning_rate": 3e-4,
    "marginal_temperature": 0.1,
    "num_candidates": 4,
}
ALONE = "contrastive only"
ARMS: dict[str, dict[str, Any] | None] = {
    "zero-shot": None,
    ALONE: {},
    "generator only": {"train_encoders": "none", "num_candidates": 1},
    "independent": {"num_candidates": 1},
    "two-phase": {"reader_warmup": 0.3},
    "dalm": {"objective": "dalm"},
    "rag_sequence": {"objective": "rag_sequence"},
    "rag_token": {"objective": "rag_token"},
    "emdr2": {"objective": "emdr2"},
    "pdist": {"objective": "pdist"},
    "lsr": {"objective": "lsr"},
}
IDLE = {  # options that would have no effect in an arm
    ALONE: ("generator_learning_rate", "marginal_temperature", "num_candidates"),
    "dalm": ("marginal_temperature", "num_candidates"),
}


def all_cells() -> Iterator[dict[str, Any]]:
    for cell in cells(ARMS, SHARED, halves()[2], lambda seed: fresh(seed)[0]):
        for option in IDLE.get(cell["name"], ()):
            del cell["options"][option]
        yield cell | {"alone": cell["name"] == ALONE}


if __name__ == "__main__":
    run("toy_with_gold", all_cells())
