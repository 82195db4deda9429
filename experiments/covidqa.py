"""Run experiment 3, control: COVID-QA with all-MiniLM-L6-v2 and an untrained generator.

765 expert questions, a knowledge base of 2,341 passages of 62 articles, 139 test questions on
separate articles. The generator (4 layers, width 192) has seen no other text; the question is
whether it teaches the retriever anything.
"""

from collections.abc import Callable, Iterator
from typing import Any

from common import DATA, SEEDS, WORK, columns, minilm, run

TRAIN, TEST, BASE = (str(DATA / f"covidqa_{x}.csv") for x in ("train", "test", "passages"))
SHARED = {
    "max_train_steps": 60,
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-5,
    "generator_learning_rate": 1e-3,
    "precision": "fp32",
    "num_warmup_steps": 6,
    "logging_steps": 10,
    "generator_max_len": 288,
    "passage_max_len": 128,
}
JOINT = {"num_candidates": 4, "marginal_temperature": 0.05}
ARMS: dict[str, dict[str, Any] | None] = {
    "zero-shot": None,
    "contrastive only": {"alone": True},
    "independent": {"num_candidates": 1},
    "dalm": {"objective": "dalm"},
    "rag_sequence": {"objective": "rag_sequence", **JOINT},
    "rag_token": {"objective": "rag_token", **JOINT},
    "pdist": {"objective": "pdist", **JOINT},
    "no gold, query alone, rag_sequence": {
        "objective": "rag_sequence",
        "candidates": "index",
        "passages": [BASE],
        "train_encoders": "query",
        "learning_rate": 5e-4,
        "without_gold": True,
        **JOINT,
    },
}


def generator(seed: int) -> str:
    """Return an untrained generator whose tokenizer knows the passages' words."""
    from dalm.config import Columns
    from dalm.io.examples import read_passages
    from dalm.models.tiny import build_generator
    from dalm.prompts import MARKS

    folder = WORK / f"covid-generator-{seed}"
    if not folder.exists():
        texts = [passage.text for passage in read_passages(BASE, Columns())]
        texts += MARKS * len(texts)
        build_generator(texts, folder, width=192, layers=4, heads=6, vocabulary=4096, seed=seed)
    return str(folder)


def cells(
    arms: dict[str, dict[str, Any] | None],
    shared: dict[str, Any],
    made: Callable[[int], str],
    **more: Any,
) -> Iterator[dict[str, Any]]:
    """Yield a cell for each seed and arm, with the generator that is made for the seed."""
    without_gold = columns(TRAIN, WORK / "covid_alone.csv", ("Query", "Answer"))
    for seed in SEEDS:
        for name, given in arms.items():
            cell = {
                "name": name,
                "seed": seed,
                "table": TRAIN,
                "test": TEST,
                "base": [BASE],
                "retriever": minilm(),
                "generator": made(seed),
                "options": None,
                **more,
            }
            if given is not None:
                options = shared | given
                cell["alone"] = options.pop("alone", False)
                if options.pop("without_gold", False):
                    cell["table"] = without_gold
                if cell["alone"]:
                    del options["generator_learning_rate"], options["generator_max_len"]
                cell["options"] = options
            yield cell


if __name__ == "__main__":
    run("covidqa", cells(ARMS, SHARED, generator))
