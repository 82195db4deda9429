"""Run experiment 5: does pretraining on domain text help a small generator?

A Llama of one million parameters and its tokenizer are made from MedQuAD's passages and COVID-QA's
knowledge base, and pretrained on them; bits per byte on held-out texts are computed before and
after. Then it is fine-tuned on questions with their gold passages, and so is one without
pretraining: same initial weights, same tokenizer, same fine-tuning, and once more with three times
as much of it. The metric is the negative log-likelihood of the answers on the test split, which has
separate documents. COVID-QA's knowledge base includes the test articles, as a user's would;
MedQuAD's test passages are in none of the texts.

The texts come in two forms: bare; and as reading comprehension texts, each passage followed by
exercises (`dalm reading-comprehension`) and by questions generated from it with rules (`dalm
qa-gen`), with half as many updates. Held out and evaluated are the same bare passages.

    python pretraining.py            all cells
    python pretraining.py --smoke    one seed, a few updates, to see that it runs
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import DATA, RESULTS, SEEDS, WORK, minilm, results, run

SMOKE = "--smoke" in sys.argv
SIZE, RATE = "1m", 3e-3
FORMS: dict[str, dict[str, Any]] = {
    "texts": {
        "sequence_length": 256,
        "per_device_train_batch_size": 16,
        "num_train_epochs": 2,
    },
    "exercises": {
        "sequence_length": 512,
        "per_device_train_batch_size": 8,
        "max_train_steps": 500,
    },
}
"""Updates of 4,096 tokens; a passage and its exercises need longer rows than a passage."""
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
ARMS = {
    "tuned alone": (None, 1),
    "tuned alone, three times as long": (None, 3),
    "pretrained alone": ("texts", 0),
    "pretrained, then tuned": ("texts", 1),
    "pretrained on exercises, then tuned": ("exercises", 1),
    "pretrained on exercises alone": ("exercises", 0),
}
"""Form of the pretraining texts, if any, and length of the fine-tuning."""
PLACE = WORK / ("smoke" if SMOKE else "pretraining")


def texts() -> str:
    """Return the file of the distinct passages of both domains."""
    from dalm.ingest.texts import read_texts

    file = PLACE / "texts.jsonl"
    if file.exists():
        return str(file)
    found = [
        text
        for name in ("medquad_train.csv", "covidqa_passages.csv")
        for text in read_texts(str(DATA / name))
    ]
    return lines(file.stem, ({"Title": t.title, "Passage": t.text} for t in found[:: 40**SMOKE]))


def lines(name: str, rows: Any) -> str:
    """Write a file of rows, and return it; it is there once it is whole."""
    file = PLACE / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    growing = file.with_suffix(".part")
    growing.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    growing.replace(file)
    return str(file)


def exercises() -> str:
    """Return the file of all passages with exercises and questions made of them."""
    from dalm import QaGen, ReadingComprehension, qa_gen, reading_comprehension

    file, folder = PLACE / "exercises.jsonl", PLACE / "questions"
    if not file.exists():
        qa_gen(texts(), QaGen(output_dir=str(folder), overwrite_output_dir=True))
        questions = str(folder / "question_answer_pairs_train.csv")
        reading_comprehension(texts(), ReadingComprehension(output=str(file), questions=questions))
    return str(file)


def read(form: str, seed: int) -> dict[str, str]:
    """Return what is trained on and what is measured on; no exercise is of a passage held out."""
    from dalm.config import Pretraining
    from dalm.ingest.texts import hold_out, read_texts

    if form == "texts":
        return {"trained": texts()}
    share, size = Pretraining.held_out_share, Pretraining.held_out_bytes
    _, out = hold_out(read_texts(texts()), share, size, seed)
    held = {text.id: {"Title": text.title, "Passage": text.text} for text in out}
    made = map(json.loads, Path(exercises()).read_text(encoding="utf-8").splitlines())
    return {
        "trained": lines(f"exercises-{seed}", (row for row in made if row["id"] not in held)),
        "held_out": lines(f"held-out-{seed}", held.values()),
    }


def fresh(seed: int) -> str:
    """Return an untrained generator whose tokenizer knows the texts' words."""
    from dalm.ingest.texts import read_texts
    from dalm.models.tiny import SIZES, build_generator
    from dalm.prompts import MARKS

    folder = PLACE / f"fresh-{seed}"
    if not folder.exists():
        known = [text.text for text in read_texts(texts())]
        known += MARKS * len(known)
        build_generator(known, folder, **SIZES[SIZE], max_length=1024, seed=seed)
    return str(folder)


def pretrained(form: str, seed: int) -> str:
    """Return the same one, pretrained, and keep its bits per byte; it goes on where it stopped."""
    from dalm import Pretraining, pretrain
    from dalm.training import checkpoints

    folder = PLACE / f"{form}-{seed}"
    if not (folder / "generator").exists():
        source = read(form, seed)
        options = {**FORMS[form], **({"max_train_steps": 3} if SMOKE else {})}
        begun = bool(checkpoints.steps(folder)) if folder.exists() else False
        settings = Pretraining(
            output_dir=str(folder),
            overwrite_output_dir=not begun,
            resume_from_checkpoint="latest" if begun else None,
            checkpointing_steps=100,
            seed=seed,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            num_warmup_steps=20,
            precision="fp32",
            held_out=source.get("held_out"),
            **options,
        )
        pretrain(source["trained"], fresh(seed), settings=settings)
        found = json.loads((folder / "bits_per_byte.json").read_text())
        if not SMOKE:
            with (RESULTS / "pretraining_bits.jsonl").open("a", encoding="utf-8") as kept:
                kept.write(json.dumps({"name": form, "seed": seed, **found}) + "\n")
    return str(folder / "generator")


def cells(wanted: list[tuple[str, str, int]]) -> Iterator[dict[str, Any]]:
    for domain, arm, seed in wanted:
        form, times = ARMS[arm]
        yield {
            "name": f"{domain}: {arm}",
            "seed": seed,
            "reader": True,
            "table": str(DATA / f"{domain}_train.csv"),
            "test": str(DATA / f"{domain}_test.csv"),
            "retriever": minilm(),
            "generator": pretrained(form, seed) if form else fresh(seed),
            "options": {**TUNING, "max_train_steps": STEPS[domain] * times} if times else None,
        }


def make(form: str | None, seed: int) -> None:
    """Make a generator in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--make", form or "fresh", str(seed)],
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        sys.exit(f"{form or 'fresh'} {seed} failed")


def main() -> None:
    if not Path(DATA / "medquad_train.csv").is_file():
        sys.exit(f"{DATA} holds no medquad_train.csv: name the folder in DALM_BENCH_DATA")
    if "--make" in sys.argv:
        form, seed = sys.argv[-2], int(sys.argv[-1])
        print(fresh(seed) if form == "fresh" else pretrained(form, seed))
        return
    done = {(r["name"], r["seed"]) for r in results("pretraining")} if not SMOKE else set()
    wanted = [
        (domain, arm, seed)
        for arm in ARMS
        for seed in (SEEDS if not SMOKE else SEEDS[:1])
        for domain in STEPS
        if (f"{domain}: {arm}", seed) not in done
    ]
    texts()  # before several processes ask for it
    for form in dict.fromkeys(ARMS[arm][0] for _, arm, _ in wanted):
        if form == "exercises":
            exercises()
        seeds = dict.fromkeys(seed for _, arm, seed in wanted if ARMS[arm][0] == form)
        with ThreadPoolExecutor() as pool:
            list(pool.map(make, [form] * len(seeds), seeds))
    if not SMOKE:
        run("pretraining", cells(wanted))


if __name__ == "__main__":
    main()
