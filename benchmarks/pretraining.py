"""Measure pretraining in tokens/s and peak memory, beside TRL's SFTTrainer with packing.

Same weights (a Llama made from the texts), texts (MedQuAD's passages), row length, batch, optimizer
and precision. TRL packs in two ways: best fit, which like ours keeps documents from attending to
each other, and on a CPU puts a whole batch into one row; and wrapped, which cuts documents anywhere
and lets them attend to each other. The figure to compare is tokens per second; our rows and its
best fit hold one start token per document, its wrapped rows none. The three take turns in one run,
so that a noisy machine affects all alike.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import child, data, forget_peak, precisions, resident, row, table

QUICK = "--quick" in sys.argv
SIZE, LENGTH, BATCH, DOCUMENTS = ("1m", 256, 4, 300) if QUICK else ("5m", 512, 8, 2000)
STEPS, WARM_UP = (7, 2) if QUICK else (8, 2)
SPEEDS = ("tokens/s", "tokens per CPU s")
"""Wall time and CPU time: equal on an otherwise idle machine."""


def timer(tokens: list[int]) -> Any:
    """Return what counts tokens and seconds once it is warm, and the peak of memory."""
    import time

    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            now = time.perf_counter(), time.process_time()
            if state.global_step == WARM_UP:
                self.start, self.before = now, sum(tokens)
            elif state.global_step > WARM_UP:
                read = sum(tokens) - self.before
                self.speeds = [read / (b - a) for a, b in zip(self.start, now, strict=True)]

    return Timer()


def texts() -> list[str]:
    from dalm.ingest.texts import read_texts

    return [text.text for text in read_texts(data("medquad_train.csv"))][:DOCUMENTS]


def start(folder: str) -> str:
    """Make the weights that all start from."""
    from dalm.models.tiny import SIZES, build_generator

    return str(build_generator(texts(), folder, **SIZES[SIZE], max_length=1024, seed=0))


def ours(model: str, precision: str) -> dict[str, float]:
    from dalm.config import Pretraining
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.training.data.corpus import documents
    from dalm.training.data.packing import PackedRows
    from dalm.training.objectives.causal_lm import CausalLM
    from dalm.training.trainer import ObjectiveTrainer, arguments

    placement = place("cpu", precision)  # type: ignore[arg-type]
    generator = load_generator(model, placement)
    rows = PackedRows(documents(generator, texts(), ends=True), LENGTH)
    objective = CausalLM(generator)
    with tempfile.TemporaryDirectory() as folder:
        settings = Pretraining(
            output_dir=folder, max_train_steps=STEPS, per_device_train_batch_size=BATCH
        )
        trainer = ObjectiveTrainer(objective, rows, arguments(settings, placement, []), {}, {})
        trainer.args.save_strategy = "no"
        read: list[int] = []
        forward = objective.forward

        def counted(batch: Any) -> Any:
            read.append(batch["read"])
            return forward(batch)

        objective.forward = counted  # type: ignore[method-assign]
        return measured(trainer, read)


def theirs(model: str, precision: str, strategy: str) -> dict[str, float]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            learning_rate=5e-5,
            max_length=LENGTH,
            packing=True,
            packing_strategy=strategy,
            dataset_text_field="text",
            gradient_checkpointing=False,
            bf16=precision == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            args=config,
            train_dataset=Dataset.from_dict({"text": texts()}),
            processing_class=AutoTokenizer.from_pretrained(model),
        )
        read: list[int] = []
        collate = trainer.data_collator

        def counted(rows: Any) -> Any:
            read.append(sum(len(each["input_ids"]) for each in rows))
            return collate(rows)

        trainer.data_collator = counted
        return measured(trainer, read)


def measured(trainer: Any, read: list[int]) -> dict[str, float]:
    watch = timer(read)
    trainer.add_callback(watch)
    forget_peak()
    before = resident("VmRSS")
    trainer.train()
    return dict(zip(SPEEDS, watch.speeds, strict=True)) | {"mb": resident("VmHWM") - before}


def main() -> None:
    """Measure; `--quick`: a smaller model and one round, in fp32, to see that it runs."""
    arguments = [each for each in sys.argv[1:] if each != "--quick"]
    if arguments:
        who, model, precision = arguments
        found = ours(model, precision) if who == "dalm" else theirs(model, precision, who)
        print(json.dumps(found))
        return
    rounds, wanted, more = (1, ["fp32"], ["--quick"]) if QUICK else (3, precisions(), [])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = start(folder)
        for precision in wanted:
            seen: dict[str, list[dict[str, float]]] = {"dalm": [], "bfd_split": [], "wrapped": []}
            for _ in range(rounds):
                for who, found in seen.items():
                    found.append(child(Path(__file__), who, model, precision, *more))
            for peer in ("bfd_split", "wrapped"):
                rows.append(row(precision, peer, *compared(seen["dalm"], seen[peer])))
    heading = ["precision", "TRL's packing"]
    for name in (*SPEEDS, "MB above the start"):
        heading += [f"dalm, {name}", "TRL", "ratio (range)"]
    title = f"Pretraining, {SIZE} weights, rows of {LENGTH}, batch {BATCH}"
    table("pretraining_speed", title, heading, rows, trial=QUICK)


def compared(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> list[str]:
    cells = []
    for name in (*SPEEDS, "mb"):
        pairs = [(a[name], b[name]) for a, b in zip(ours, theirs, strict=True)]
        cells += [f"{statistics.median(side):.0f}" for side in zip(*pairs, strict=True)]
        ratios = [a / b for a, b in pairs]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return cells


if __name__ == "__main__":
    main()
