"""Experiment 4: does a domain's text help a generator that was made from nothing?

A Llama of one million weights and its tokenizer are made of MedQuAD's passages and COVID-QA's
knowledge base, and pretrained on them; its bits per byte on held-out texts are taken before and
after. Then it is tuned on questions with their gold passages, and so is one that was not
pretrained: same weights at the start, same tokenizer, same tuning, and once more with three times
as much of it. What is measured is the answers' negative log-likelihood on the test side, of
documents apart. COVID-QA's knowledge base holds the test's articles too, as a user's would;
MedQuAD's test passages are in none of the texts.

    python pretraining.py            all cells
    python pretraining.py --smoke    one seed, a few updates, to see that it runs
"""

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from common import DATA, RESULTS, SEEDS, WORK, minilm, over_seeds, run

SMOKE = "--smoke" in sys.argv
SIZE = "1m"
LENGTH, BATCH, EPOCHS, RATE = 256, 16, 2, 3e-3
TUNING = {
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "num_warmup_steps": 10,
    "precision": "fp32",
    "logging_steps": 20,
    "generator_max_len": 288,
    "reader_passages": 1,
}
STEPS = {"covidqa": 150, "medquad": 300}
PLACE = WORK / ("smoke" if SMOKE else "pretraining")


@cache
def texts() -> str:
    """Write the distinct passages of both domains to one file, and return it."""
    from dalm.datasets.texts import read_texts

    found = [
        text
        for name in ("medquad_train.csv", "covidqa_passages.csv")
        for text in read_texts(str(DATA / name))
    ]
    file = PLACE / "texts.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"title": t.title, "text": t.text}) + "\n" for t in found[:: 40**SMOKE])
    file.write_text("".join(lines), encoding="utf-8")
    return str(file)


def fresh(seed: int) -> str:
    """Return an untrained generator whose tokenizer knows the texts' words."""
    from dalm.datasets.texts import read_texts
    from dalm.models.tiny import SIZES, build_generator
    from dalm.prompts import PLAIN

    folder = PLACE / f"fresh-{seed}"
    if not folder.exists():
        known = [text.text for text in read_texts(texts())]
        known += [PLAIN.opening, PLAIN.passage, PLAIN.query, PLAIN.answer] * len(known)
        build_generator(known, folder, **SIZES[SIZE], max_length=1024, seed=seed)
    return str(folder)


def pretrained(seed: int) -> str:
    """Return the same one, pretrained; its figures are beside it."""
    from dalm import Pretraining, pretrain

    folder = PLACE / f"pretrained-{seed}"
    if not (folder / "generator").exists():
        options = {"max_train_steps": 3} if SMOKE else {"num_train_epochs": EPOCHS}
        settings = Pretraining(
            output_dir=str(folder),
            overwrite_output_dir=True,
            seed=seed,
            sequence_length=LENGTH,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            num_warmup_steps=20,
            precision="fp32",
            **options,
        )
        pretrain(texts(), fresh(seed), settings=settings)
    return str(folder / "generator")


def cells(seeds: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    for seed in seeds:
        for domain, steps in STEPS.items():
            arms = {
                "tuned alone": (fresh(seed), 1),
                "tuned alone, three times as long": (fresh(seed), 3),
                "pretrained alone": (pretrained(seed), 0),
                "pretrained, then tuned": (pretrained(seed), 1),
            }
            for name, (generator, times) in arms.items():
                tuning = {**TUNING, "max_train_steps": 2 if SMOKE else steps * times}
                yield {
                    "name": f"{domain}: {name}",
                    "seed": seed,
                    "reader": True,
                    "table": str(DATA / f"{domain}_train.csv"),
                    "test": str(DATA / f"{domain}_test.csv"),
                    "retriever": minilm(),
                    "generator": generator,
                    "options": tuning if times else None,
                }


def report(seeds: tuple[int, ...]) -> None:
    """Print bits per byte over the seeds, and keep them."""
    found = [
        json.loads((PLACE / f"pretrained-{seed}" / "bits_per_byte.json").read_text())
        for seed in seeds
    ]
    if not SMOKE:
        lines = (json.dumps({"seed": s, **f}) + "\n" for s, f in zip(seeds, found, strict=True))
        (RESULTS / "pretraining_bits.jsonl").write_text("".join(lines))
    print("\n| held-out texts | bits per byte |\n|---|---|")
    for when in ("before", "best", "last"):
        print(f"| {when} | {over_seeds([each[when]['domain_bits_per_byte'] for each in found])} |")


def main() -> None:
    if not Path(DATA / "medquad_train.csv").is_file():
        sys.exit(f"{DATA} holds no medquad_train.csv: name the folder in DALM_BENCH_DATA")
    if SMOKE:
        pretrained(1)
        report((1,))
        return
    run("pretraining", cells(SEEDS))
    report(SEEDS)


if __name__ == "__main__":
    main()
