"""Make the model pairs that the toy experiments start from, once per seed, and keep them.

The misaligned retriever has learnt the places and the wrong jargon: it was trained contrastively on
questions in which every kind of device has another kind's name, so it finds the right place and the
wrong device. The generator has learnt to answer from passages on half of the places.

The variant of the domain whose answers are shared within a place has models of its own.

They are made with one thread: with two, sums are rounded in another order, and after hundreds of
updates the pair differs. With one thread, a pair was identical on two machines.
"""

import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from common import SEEDS, TOY, WORK, columns, write_rows
from toy import FILES, KINDS, toy_rows, write

from dalm import RagE2E, RetrieverOnly, train_rag_e2e, train_retriever_only

RATES = {
    "learning_rate": 1e-3,
    "generator_learning_rate": 1.5e-3,
    "lr_scheduler_type": "cosine",
    "num_warmup_steps": 40,
    "logit_scale": 20.0,
    "precision": "fp32",
    "per_device_train_batch_size": 16,
    "logging_steps": 20,
}
DRAWS, FIRST_UPDATES, SHARED_UPDATES = (0, 1, 2, 3), 500, 600
"""Training of a reader of the variant with shared answers: on the toy domain first, then on it."""
torch.set_num_threads(1)
TRAIN, TEST = str(TOY / "toy_data_train.csv"), str(TOY / "toy_data_test.csv")


@cache
def tables(*, shared: bool = False) -> tuple[str, str]:
    """Return the training and the test table, of the variant with shared answers if asked for."""
    if not shared:
        return TRAIN, TEST
    folder = WORK / "toy-shared"
    write(folder, shared=True)
    return str(folder / FILES["train"]), str(folder / FILES["test"])


def fresh(seed: int) -> tuple[str, str]:
    """Return an untrained retriever and generator whose tokenizers know the domain's words."""
    from dalm.commands.demo import untrained_pair
    from dalm.config import Demo

    folder = WORK / f"fresh-{seed}"
    if not folder.exists():
        untrained_pair(Demo(seed=seed, output_dir=str(folder)))
    return str(folder / "encoder"), str(folder / "decoder")


def halves(*, shared: bool = False) -> tuple[str, str, str]:
    """Return tables of the first half of the places, and of the second without and with gold."""
    both, alone = ("Query", "Passage", "Answer"), ("Query", "Answer")
    train, name = tables(shared=shared)[0], _named("toy", shared)
    return (
        columns(train, WORK / f"{name}_first.csv", both, lambda rows: rows[: len(rows) // 2]),
        columns(train, WORK / f"{name}_second.csv", alone, lambda rows: rows[len(rows) // 2 :]),
        columns(train, WORK / f"{name}_second_gold.csv", both, lambda rows: rows[len(rows) // 2 :]),
    )


def misaligned(seed: int, *, shared: bool = False) -> str:
    """Return a retriever that has learnt the places, and the wrong names of the devices."""
    folder = WORK / f"{_named('misaligned', shared)}-{seed}"
    if not (folder / "retriever").exists():
        misnamed = WORK / f"{_named('toy', shared)}_misnamed.csv"
        file = columns(tables(shared=shared)[0], misnamed, ("Query", "Passage"), _misname)
        options = {**RATES, "per_device_train_batch_size": 32, "max_train_steps": 300}
        del options["generator_learning_rate"]
        settings = RetrieverOnly(
            output_dir=str(folder), overwrite_output_dir=True, seed=seed, **options
        )
        train_retriever_only(fresh(seed)[0], file, settings)
    return str(folder / "retriever")


def reader(seed: int, *, shared: bool = False) -> str:
    """Return a generator that can answer from passages: it was fine-tuned on other places.

    In the variant a value's form says nothing of what it is the value of. Trained on it from the
    start, some seeds never got beyond naming one of a passage's four values; after the toy domain,
    where the form helps, all learn it. Both parts have several draws of values at the same places.
    """
    if not shared:
        return _reader(WORK / f"reader-{seed}", fresh(seed)[1], halves()[0], 700, seed)
    first = _reader(WORK / f"reader-drawn-{seed}", fresh(seed)[1], _redrawn(), FIRST_UPDATES, seed)
    folder = WORK / f"reader-shared-after-drawn-{seed}"
    return _reader(folder, first, _redrawn(shared=True), SHARED_UPDATES, seed)


def _reader(folder: Path, start: str, table: str, updates: int, seed: int) -> str:
    """Return a generator after fine-tuning on a table, kept in a folder."""
    if not (folder / "generator").exists():
        settings = RagE2E(
            output_dir=str(folder),
            overwrite_output_dir=True,
            seed=seed,
            train_encoders="none",
            num_candidates=1,
            **{**RATES, "per_device_train_batch_size": 32, "max_train_steps": updates},
        )
        train_rag_e2e(table, fresh(seed)[0], start, settings)
    return str(folder / "generator")


def cells(
    arms: dict[str, dict[str, Any] | None],
    shared: dict[str, Any],
    table: str,
    retriever: Callable[[int], str],
) -> Iterator[dict[str, Any]]:
    """Yield a cell for each seed and arm; an arm's options win, and None is measured untrained."""
    for seed in SEEDS:
        for name, given in arms.items():
            yield {
                "name": name,
                "seed": seed,
                "table": table,
                "test": TEST,
                "retriever": retriever(seed),
                "generator": reader(seed),
                "options": None if given is None else shared | given,
            }


def _redrawn(*, shared: bool = False) -> str:
    """Return a table of the first half of the places, with several draws of their values."""
    drawn = [toy_rows("train", shared=shared, draw=draw) for draw in DRAWS]
    rows = [row for each in drawn for row in each[: len(each) // 2]]
    file = WORK / f"{_named('toy', shared)}_drawn.csv"
    return write_rows(file, ("Query", "Passage", "Answer"), rows)


def _named(name: str, shared: bool) -> str:
    return f"{name}-shared" if shared else name


def _misname(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    kinds = list(KINDS)
    other = dict(zip(kinds, kinds[1:] + kinds[:1], strict=True))
    named = re.compile(rf"\b({'|'.join(kinds)})\b")
    return [row | {"Query": named.sub(lambda match: other[match[1]], row["Query"])} for row in rows]


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        print(misaligned(seed), reader(seed))
