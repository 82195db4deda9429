"""Measure joint training on one GPU at the sizes that people use.

A retriever of bge-large's size (BERT, 24 layers of width 1,024) and a generator of 7 billion
weights (Llama 2's shape), both from configs with random weights: neither speed nor memory depends
on them. LoRA on both, bf16, batch 24, default lengths, texts longer than those lengths. The share
of the peak is the arithmetic that torch counts in a step, over the time of a step, over what a
product of two 8,192 x 8,192 matrices reaches on the same GPU in the same run.

`--tiny` builds models of a few thousand weights and runs on whatever device there is.
"""

import argparse
import csv
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import row, table

WAYS = {
    "in-batch": ["--candidates", "in-batch"],
    "index": ["--candidates", "index"],
}
STEPS, COUNTED = 8, (2, 4)
"""Steps of the timed run, of which the first two warm up, and of the two runs whose arithmetic is
counted: their difference is free of what a run does once."""
ROWS = 512


def write_table(path: Path) -> list[str]:
    """Write questions, passages and answers of invented words; return their texts."""
    chance = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(3000)]

    def text(shortest: int, longest: int) -> str:
        return " ".join(chance.choices(words, k=chance.randint(shortest, longest)))

    heading = ("Passage", "Query", "Answer")
    rows = [(text(150, 220), text(8, 20), text(8, 40)) for _ in range(ROWS)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return [cell for cells in rows for cell in cells]


def build_models(texts: list[str], folder: Path, device: str, *, tiny: bool) -> None:
    """Save a retriever and a generator with the texts' tokenizers and random weights."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from dalm.models.tiny import build_encoder, build_generator

    build_encoder(texts, folder / "retriever", layers=1, vocabulary=4000, max_length=512)
    build_generator(texts, folder / "generator", layers=1, vocabulary=4000, max_length=4096)
    if tiny:
        return
    sizes = {
        "retriever": (AutoModel, {
            "vocab_size": 30522, "hidden_size": 1024, "num_hidden_layers": 24,
            "num_attention_heads": 16, "intermediate_size": 4096,
        }),
        "generator": (AutoModelForCausalLM, {
            "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128,
            "intermediate_size": 11008, "tie_word_embeddings": False, "attention_bias": False,
        }),
    }  # fmt: skip
    for name, (kind, size) in sizes.items():
        config = AutoConfig.from_pretrained(folder / name)
        config.update(size)
        with torch.device(device):
            model = kind.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder / name)
        if name == "retriever":
            _fit_pooling(folder / name, size["hidden_size"])
        print(f"{name}: {sum(p.numel() for p in model.parameters()) / 1e9:.2f} billion weights")
        del model
        torch.cuda.empty_cache()


def _fit_pooling(folder: Path, width: int) -> None:
    """Name the new width in the pooling's own config."""
    path = folder / "1_Pooling" / "config.json"
    settings = json.loads(path.read_text())
    known = {key: width for key in settings if "dimension" in key}
    path.write_text(json.dumps(settings | known))


def peak_rate(device: str, *, size: int) -> float:
    """Return the operations per second of a bf16 product of two square matrices."""
    import torch

    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in "lr")
    seconds = []
    for _ in range(12):
        synchronise(device)
        start = time.perf_counter()
        left @ right
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[2:])


def synchronise(device: str) -> None:
    """Wait until the device has done its work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def train(folder: Path, way: str, steps: int, *, tiny: bool) -> list[dict[str, Any]]:
    """Train some steps and return the lines of the log."""
    from dalm.cli import app, run

    output = folder / f"run-{way}-{steps}"
    line = ["train-rag-e2e", folder / "rows.csv", folder / "retriever", folder / "generator"]
    line += ["--output-dir", output, "--use-peft", "both", "--max-train-steps", steps]
    line += ["--batch-size", 4 if tiny else 24, "--logging-steps", 1, *WAYS[way]]
    line += [] if tiny else ["--precision", "bf16", "--device", "cuda"]
    if run(app, [str(part) for part in line]):
        sys.exit("the training failed")
    return [json.loads(each) for each in (output / "metrics.jsonl").read_text().splitlines()]


def measure(folder: Path, way: str, peak: float, *, tiny: bool) -> tuple[str, ...]:
    """Return a line of the table: speed, share of the peak, and peak memory of a run."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    lines = train(folder, way, STEPS, tiny=tiny)[2:]
    counted = []
    for steps in COUNTED:
        with FlopCounterMode(display=False) as counter:
            train(folder, way, steps, tiny=tiny)
        counted.append(counter.get_total_flops())
    arithmetic = (counted[1] - counted[0]) / (COUNTED[1] - COUNTED[0])
    median = {key: statistics.median(line[key] for line in lines) for key in lines[0]}
    batch = 4 if tiny else 24
    rate = arithmetic / (batch / median["samples_per_second"])
    return row(
        way,
        f"{median['samples_per_second']:.1f}",
        f"{median['tokens_per_second']:,.0f}",
        f"{rate / 1e12:.1f}",
        f"{rate / peak:.0%}",
        f"{median['peak_memory_mb'] / 1024:.1f}",
    )


def main() -> None:
    """Build the models, train in both ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a few thousand weights, any device")
    parser.add_argument("--way", choices=list(WAYS), action="append", help="default: all")
    chosen = parser.parse_args()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        sys.exit("there is no CUDA device: --tiny tries the same on this one")
    peak = peak_rate(device, size=512 if chosen.tiny else 8192)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        texts = write_table(folder / "rows.csv")
        build_models(texts, folder, device, tiny=chosen.tiny)
        rows = [measure(folder, way, peak, tiny=chosen.tiny) for way in chosen.way or WAYS]
    heading = ("candidates", "samples/s", "tokens/s", "TFLOP/s", "of the peak", "GiB")
    title = f"joint training on {name}, products at {peak / 1e12:.0f} TFLOP/s"
    table("gpu_training", title, heading, rows, trial=chosen.tiny)


if __name__ == "__main__":
    main()
