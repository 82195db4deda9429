"""Compare what improves an index whose passages' vectors stay as they are.

On gold pairs, in the settings of `teacher_arms.py`: a linear map of the queries' vectors
(`--train-encoders query-adapter`), adapters that queries alone pass (`query`), and an encoder that
is retrained whole, whose passages are encoded again (`new index`, the ceiling) or whose queries are
mapped to the index of the untuned one, by maps that are learned from both models' vectors of the
training texts (Drift-Adapter: Vejendla 2025, arXiv:2509.23471). Every line of
results/query_side.jsonl has the ranks of the gold passages by each of these ways.

    python experiments/query_side.py [DOMAIN ...] [--seeds 1 2 3] [--arms TEXT ...]
"""

import argparse
from typing import Any

from common import run
from domains import domain
from retriever_teachers import describe_once
from teacher_arms import setting_of

DOMAINS = ("toy-shared", "covidqa")
ADAPTER, ALONE = {"train_encoders": "query-adapter"}, {"train_encoders": "query"}
ARMS: dict[str, dict[str, Any] | None] = {
    "untuned": None,
    "query adapter, 1e-4": ADAPTER | {"learning_rate": 1e-4},
    "query adapter, 1e-3": ADAPTER | {"learning_rate": 1e-3},
    "query encoder alone (LoRA), 1e-3": ALONE | {"learning_rate": 1e-3},
    "whole encoder": {},
}


def cell(name: str, arm: str, seed: int) -> dict[str, Any]:
    """Return an arm's cell."""
    setting, given = setting_of(name), ARMS[arm]
    return {
        "name": f"{name}: {arm}",
        "seed": seed,
        "domain": name,
        "table": domain(name).gold,
        "retriever": setting.retriever(seed),
        "lengths": setting.lengths,
        "alone": True,
        "options": None if given is None else {**setting.training, **setting.contrast, **given},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("domains", nargs="*", default=list(DOMAINS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--arms", nargs="*", default=[""], help="only those with this in the name")
    given = parser.parse_args()
    for name in given.domains:
        describe_once(name)
    cells = (
        cell(name, arm, seed)
        for name in given.domains
        for seed in given.seeds
        for arm in ARMS
        if any(text in arm for text in given.arms)
    )
    run("query_side", cells, at_once=1, script="query_side_cell.py")


if __name__ == "__main__":
    main()
