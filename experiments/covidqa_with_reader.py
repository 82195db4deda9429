"""Experiment 3: COVID-QA with a generator that can read.

The retriever, the questions and the passages of `covidqa.py`, its control. The generator was made
from nothing, too, but has learnt to read on other questions (`covid_readers.py`), as any pretrained
one has. With gold passages candidates come from the batch; without, from the index.
"""

from collections.abc import Iterator
from typing import Any

from common import DATA, SEEDS, WORK, columns, minilm, run
from covid_readers import reader

TRAIN, TEST, BASE = (str(DATA / f"covidqa_{x}.csv") for x in ("train", "test", "passages"))
SHARED = {
    "max_train_steps": 60,
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-5,
    "generator_learning_rate": 3e-4,
    "precision": "bf16",
    "num_warmup_steps": 6,
    "logging_steps": 10,
    "generator_max_len": 288,
}
JOINT = {"num_candidates": 4, "marginal_temperature": 0.05}
WITHOUT_GOLD = {
    "objective": "rag_sequence",
    "candidates": "index",
    "passages": [BASE],
    "num_candidates": 8,
    "marginal_temperature": 0.05,
    "over_retrieve": 1,
}
ARMS: dict[str, dict[str, Any] | None] = {
    "zero-shot": None,
    "contrastive only": {"alone": True},
    "generator only": {"train_encoders": "none", "num_candidates": 1},
    "independent": {"num_candidates": 1},
    "two-phase": {"objective": "rag_token", "reader_warmup": 0.3, **JOINT},
    "dalm": {"objective": "dalm"},
    **{
        name: {"objective": name, **JOINT}
        for name in ("rag_sequence", "rag_token", "emdr2", "pdist", "lsr")
    },
    "no gold, rag_sequence": WITHOUT_GOLD,
    "no gold, rag_sequence, query encoder alone": WITHOUT_GOLD
    | {"train_encoders": "query", "learning_rate": 3e-4},
}


def cells() -> Iterator[dict[str, Any]]:
    alone = columns(TRAIN, WORK / "covid_alone.csv", ("Query", "Answer"))
    for seed in SEEDS:
        for name, given in ARMS.items():
            cell = {
                "name": name,
                "seed": seed,
                "table": alone if name.startswith("no gold") else TRAIN,
                "test": TEST,
                "base": [BASE],
                "retriever": minilm(),
                "generator": reader(seed),
                "encodes_in": "bf16",
                "options": None,
            }
            if given is not None:
                options = SHARED | given
                cell["alone"] = options.pop("alone", False)
                if cell["alone"]:
                    del options["generator_learning_rate"], options["generator_max_len"]
                cell["options"] = options
            yield cell


if __name__ == "__main__":
    run("covidqa_with_reader", cells())
