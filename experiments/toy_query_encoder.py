"""Experiment 1 once more, with the defaults of an index: a full refresh, and re-ranking.

Is the query encoder alone enough, and does it need longer? Pairs of its own: those of
`toy_without_gold.py` were made by two threads, and come out the same nowhere else.
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
