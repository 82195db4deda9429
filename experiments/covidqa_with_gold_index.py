"""Run experiment 3 over an index: COVID-QA's gold passages known, candidates from all 2,341.

The same arms as in `toy_with_gold_index.py`, with the generators of `covidqa_with_reader.py`, whose
`independent` is the row to compare with. A tenth of the FLOPs of its 60 updates doesn't pay for a
refresh, so the full refresh has a larger budget.
"""

from typing import Any

from common import run
from covid_readers import reader
from covidqa import cells
from covidqa_with_reader import INDEX, SHARED

STILL = {"refresh_budget": 0.0, "over_retrieve": 1}
RERANKED = INDEX | STILL | {"over_retrieve": 2}
ARMS: dict[str, dict[str, Any] | None] = {
    "query encoder alone": INDEX | {"train_encoders": "query", "learning_rate": 3e-4},
    "query encoder alone, 1e-3": INDEX | {"train_encoders": "query", "learning_rate": 1e-3},
    "K = 2": RERANKED | {"num_candidates": 2},
    "K = 4": RERANKED | {"num_candidates": 4},
    "K = 8": RERANKED,
    "K = 16": RERANKED | {"num_candidates": 16},
    "no refresh": INDEX | STILL,
    "full refresh alone": INDEX | STILL | {"refresh_budget": 0.5},
    "write-back alone": INDEX | STILL | {"write_back": True},
}


if __name__ == "__main__":
    run("covidqa_with_gold_index", cells(ARMS, SHARED, reader, encodes_in="bf16"))
