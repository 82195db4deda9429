"""Run experiment 3: COVID-QA with a generator that can answer from passages.

The retriever, the questions and the passages of `covidqa.py`, its control. The generator was also
trained from scratch, but on other questions (`covid_readers.py`), so that it can answer from a
passage, as any pretrained one can. With gold passages, candidates are in-batch; without, they come
from the index.
"""

from typing import Any

import covidqa
from common import run
from covid_readers import reader
from covidqa import BASE, JOINT, cells

SHARED = covidqa.SHARED | {"generator_learning_rate": 3e-4, "precision": "bf16"}
INDEX = {
    "objective": "rag_sequence",
    "candidates": "index",
    "passages": [BASE],
    "num_candidates": 8,
    "marginal_temperature": 0.05,
}
WITHOUT_GOLD = INDEX | {"over_retrieve": 1, "without_gold": True}
QUERY = WITHOUT_GOLD | {"train_encoders": "query"}
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
    "no gold, rag_sequence, query encoder alone": QUERY | {"learning_rate": 3e-4},
    "no gold, rag_sequence, query encoder alone, 1e-3": QUERY | {"learning_rate": 1e-3},
    "no gold, rag_sequence, query encoder alone, 3e-3": QUERY | {"learning_rate": 3e-3},
}


if __name__ == "__main__":
    run("covidqa_with_reader", cells(ARMS, SHARED, reader, encodes_in="bf16"))
