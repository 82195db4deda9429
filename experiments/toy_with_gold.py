"""Experiment 2: the same domain where the gold passages are known, at equal steps and batch.

An untrained retriever and a generator that can read, on the questions of half of the places with
their passages; candidates come from the batch.
"""

from collections.abc import Iterator
from typing import Any

from common import SEEDS, run
from toy_models import RATES, TEST, fresh, halves, reader

SHARED = {
    **RATES,
    "max_train_steps": 200,
    "generator_learning_rate": 3e-4,
    "marginal_temperature": 0.1,
    "num_candidates": 4,
}
ARMS: dict[str, dict[str, Any] | None] = {
    "zero-shot": None,
    "contrastive only": {"alone": True},
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
JOINT_ALONE = ("generator_learning_rate", "marginal_temperature", "num_candidates")


def cells() -> Iterator[dict[str, Any]]:
    for seed in SEEDS:
        for name, given in ARMS.items():
            cell = {
                "name": name,
                "seed": seed,
                "table": halves()[2],
                "test": TEST,
                "retriever": fresh(seed)[0],
                "generator": reader(seed),
                "options": None,
            }
            if given is not None:
                options = SHARED | given
                cell["alone"] = options.pop("alone", False)
                if cell["alone"]:
                    options = {k: v for k, v in options.items() if k not in JOINT_ALONE}
                if name == "dalm":
                    del options["marginal_temperature"], options["num_candidates"]
                cell["options"] = options
            yield cell


if __name__ == "__main__":
    run("toy_with_gold", cells())
