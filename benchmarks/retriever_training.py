"""Measure retriever training in samples/s, beside sentence-transformers' own trainer.

Same weights, data, loss (symmetric InfoNCE at scale 100), batch, length, optimizer and precision.
The two take turns in one run, so that a noisy machine affects both alike. bf16 is measured where
the CPU has it in hardware.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peer
from common import child, data, minilm, precisions, row, table

WARM_UP, STEPS, ROUNDS = 2, 9, 3


def timer() -> Any:
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_UP:
                self.start = time.perf_counter()
            self.seconds = time.perf_counter() - getattr(self, "start", time.perf_counter())

        def samples_per_second(self) -> float:
            return peer.BATCH * (STEPS - WARM_UP) / self.seconds

    return Timer()


def ours(precision: str) -> float:
    from dalm.config import RetrieverOnly
    from dalm.io.examples import read_examples
    from dalm.models.dropout import draw_zeros_alone
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.training.data.batches import Rows
    from dalm.training.objectives.contrastive import Contrastive
    from dalm.training.trainer import ObjectiveTrainer, arguments

    with tempfile.TemporaryDirectory() as folder:
        settings = RetrieverOnly(output_dir=folder, max_train_steps=STEPS)
        placement = place("cpu", precision)  # type: ignore[arg-type]
        examples = read_examples(data("medquad_train.csv"), settings)
        retriever = load_retriever(minilm(), placement, lengths={"passage": 128})
        objective = Contrastive(retriever, peer.SCALE)
        draw_zeros_alone(objective)
        trainer = ObjectiveTrainer(
            objective,
            Rows(examples, retriever),
            arguments(settings, placement, []),
            {},
            {},
        )
        trainer.args.save_strategy = "no"
        watch = timer()
        trainer.add_callback(watch)
        trainer.train()
    return watch.samples_per_second()


def theirs(precision: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        watch = timer()
        peer.trainer(folder, bf16=precision == "bf16", callbacks=[watch], max_steps=STEPS).train()
    return watch.samples_per_second()


def main() -> None:
    if len(sys.argv) > 1:
        who, precision = sys.argv[1:]
        print(json.dumps({"ours": ours, "theirs": theirs}[who](precision)))
        return
    rows = []
    for precision in precisions():
        speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(ROUNDS):
            for who, seen in speeds.items():
                seen.append(child(Path(__file__), who, precision))
        ratios = [a / b for a, b in zip(speeds["ours"], speeds["theirs"], strict=True)]
        medians = {who: statistics.median(seen) for who, seen in speeds.items()}
        rows.append(
            row(
                precision,
                f"{medians['ours']:.1f}",
                f"{medians['theirs']:.1f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            )
        )
    heading = ("precision", "dalm, samples/s", "sentence-transformers, samples/s", "ratio (range)")
    title = "Retriever training, all-MiniLM-L6-v2, MedQuAD, batch 32"
    table("retriever_training", title, heading, rows, trial=False)


if __name__ == "__main__":
    main()
