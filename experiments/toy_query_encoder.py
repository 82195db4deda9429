"""Run experiment 1 again with the defaults of an index: a full refresh and re-ranking.

Is training the query encoder only enough, and does it need more updates? It has its own pairs:
those of `toy_without_gold.py` were made with two threads and can't be reproduced elsewhere.
"""

from typing import Any

from common import run
from toy_models import cells, halves, misaligned
from toy_without_gold import SHARED

DEFAULTS = {k: v for k, v in SHARED.items() if k != "over_retrieve"} | {"objective": "rag_sequence"}
QUERY = {"train_encoders": "query", "learning_rate": 3e-3}
ARMS: dict[str, dict[str, Any] | None] = {
    "before": None,
    "rag_sequence": {},
    "query encoder alone": QUERY,
    "query encoder alone, twice as long": QUERY | {"max_train_steps": 240},
}


if __name__ == "__main__":
    run("toy_query_encoder", cells(ARMS, DEFAULTS, halves()[1], misaligned))
