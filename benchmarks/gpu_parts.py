"""Measure one part of the GPU's benchmark: training, encoding, refreshing, generation.

Each part returns its figures by name. The share of the peak is the arithmetic that torch counts,
over the time, over what a bf16 product of two 8,192 x 8,192 matrices reaches on the same GPU in the
same process.
"""

import csv
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu_models as models
import torch
from torch.utils.flop_counter import FlopCounterMode

Figures = dict[str, Any]
BATCH, STEPS, COUNTED = 24, 8, (2, 4)
"""Steps of the timed run, of which the first two warm up, and of the two runs whose arithmetic is
counted: their difference is free of what a run does once."""
MILLION = 1_000_000


def run_tests(_folder: Path, *, tiny: bool) -> Figures:
    """Run the tests that are marked `gpu`; without one they are skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
    command += ["tests/training/test_gpu.py"] if tiny else []
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1:] or [done.stderr]
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}")
    counts = {name: int(n) for n, name in re.findall(r"(\d+) (passed|skipped)", last[0])}
    return {"passed": counts.get("passed", 0), "skipped": counts.get("skipped", 0)}


def training(*options: str) -> Callable[..., Figures]:
    """Return a part: joint training with LoRA on both models."""

    def measure(folder: Path, *, tiny: bool) -> Figures:
        peak = models.peak_rate(tiny=tiny)
        lines = train(folder, STEPS, options, tiny=tiny)[2:]
        median = {key: statistics.median(line[key] for line in lines) for key in lines[0]}
        counted = []
        for steps in COUNTED:
            with FlopCounterMode(display=False) as counter:
                train(folder, steps, options, tiny=tiny)
            counted.append(counter.get_total_flops())
        arithmetic = (counted[1] - counted[0]) / (COUNTED[1] - COUNTED[0])
        per_second = arithmetic * median["samples_per_second"] / (4 if tiny else BATCH)
        return {
            "samples_per_second": median["samples_per_second"],
            "tokens_per_second": median["tokens_per_second"],
            "flops": per_second,
            "peak_flops": peak,
            "gib": median["peak_memory_mb"] / 1024,
        }

    return measure


def four_bit(folder: Path, *, tiny: bool) -> Figures:
    """Train with the frozen weights of both models in 4 bits; a CPU refuses it."""
    if models.device() == "cpu":
        return {"skipped": "4-bit weights need an NVIDIA GPU"}
    return training("--use-bnb", "both")(folder, tiny=tiny)


def train(folder: Path, steps: int, options: tuple[str, ...], *, tiny: bool) -> list[Figures]:
    """Train some steps and return the lines of the log."""
    from dalm.cli import app, run

    output = folder / "run"
    shutil.rmtree(output, ignore_errors=True)
    line = ["train-rag-e2e", folder / "rows.csv", folder / "retriever", folder / "generator"]
    line += ["--output-dir", output, "--use-peft", "both", "--max-train-steps", steps]
    line += ["--batch-size", 4 if tiny else BATCH, "--logging-steps", 1, *options]
    line += ["--device", models.device(), *([] if tiny else ["--precision", "bf16"])]
    if models.device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if run(app, [str(part) for part in line]):
        sys.exit("the training failed")
    return [json.loads(each) for each in (output / "metrics.jsonl").read_text().splitlines()]


def _retriever(folder: Path, *, tiny: bool) -> Any:
    """Load the retriever as an index does: its weights in the precision of the computation."""
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever

    placement = replace(place(models.device(), "fp32" if tiny else "bf16"), frozen=True)
    return load_retriever(str(folder / "retriever"), placement, lengths={"passage": 256})


def _passages(folder: Path, count: int) -> list[str]:
    """Return passages of more than 256 tokens, of which no two are alike."""
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["Passage"] for row in csv.DictReader(file)]
    return [f"{n} {texts[n % len(texts)]}" for n in range(count)]


def encoding(folder: Path, *, tiny: bool) -> Figures:
    """Encode a slice of a million passages; the time of all is that of the slice, extrapolated."""
    count = 64 if tiny else 16_384
    retriever = _retriever(folder, tiny=tiny)
    start = time.perf_counter()
    rows = retriever.tokenise(_passages(folder, count), "passage")
    tokenised = time.perf_counter() - start
    few = rows[:32]
    with FlopCounterMode(display=False) as counter:
        retriever.encode_tokens(few, "passage")
    models.synchronise()
    start = time.perf_counter()
    retriever.encode_tokens(rows, "passage")
    seconds = time.perf_counter() - start
    tokens = sum(map(len, rows))
    flops = counter.get_total_flops() / sum(map(len, few)) * tokens / seconds
    return {
        "slice": count,
        "passages_per_second": count / seconds,
        "tokens_per_second": tokens / seconds,
        "flops": flops,
        "peak_flops": models.peak_rate(tiny=tiny),
        "gib": models.peak_gib(),
        "minutes_for_a_million": MILLION / count * seconds / 60,
        "minutes_to_tokenise_a_million": MILLION / count * tokenised / 60,
    }


def refreshing(folder: Path, *, tiny: bool) -> Figures:
    """Refresh the index of a training with a million passages, and search it.

    The vectors of a slice are encoded and stand for all: the time of encoding is extrapolated, that
    of moving a million vectors to the device and of searching them is measured.
    """
    from dalm.retrieval.training_index import TrainingIndex

    count, part = (2_000, 64) if tiny else (MILLION, 4_096)
    retriever = _retriever(folder, tiny=tiny)
    rows = retriever.tokenise(_passages(folder, part), "passage")
    start = time.perf_counter()
    vectors = retriever.encode_tokens(rows, "passage")
    encoded = (time.perf_counter() - start) * count / part
    every = vectors.repeat(-(-count // part), 1)[:count]
    every += torch.randn(every.shape, generator=torch.Generator().manual_seed(0)) / 100
    index = TrainingIndex(count, "benchmark", retriever.device)
    index.refresh(lambda wanted: every[wanted[0] : wanted[-1] + 1])
    queries = vectors[:BATCH].to(retriever.device)
    seconds = []
    for _ in range(5):
        models.synchronise()
        start = time.perf_counter()
        index.search(queries, 8)
        models.synchronise()
        seconds.append(time.perf_counter() - start)
    return {
        "vectors": count,
        "slice": part,
        "encoding_minutes": encoded / 60,
        "moving_seconds": index.seconds,
        "search_milliseconds": 1000 * statistics.median(seconds[1:]),
        "gib": models.peak_gib(),
    }


def generation(batch: int) -> Callable[..., Figures]:
    """Return a part: answers of 128 tokens to prompts of 512, so many at once."""

    def measure(folder: Path, *, tiny: bool) -> Figures:
        from dalm.models.generator import load_generator
        from dalm.models.loading import place

        prompt, new = (32, 8) if tiny else (512, 128)
        placement = replace(place(models.device(), "fp32" if tiny else "bf16"), frozen=True)
        generator = load_generator(str(folder / "generator"), placement, max_length=prompt + new)
        text = " ".join(_passages(folder, 8))
        ids = generator.tokenise([text])[0].tolist()
        rows = [ids[n : n + prompt] for n in range(batch)]
        generator.generate_tokens(rows, 2)  # to warm up
        models.synchronise()
        start = time.perf_counter()
        made = generator.generate_tokens(rows, new)
        models.synchronise()
        seconds = time.perf_counter() - start
        return {
            "batch": batch,
            "new_tokens": sum(map(len, made)),
            "tokens_per_second": sum(map(len, made)) / seconds,
            "seconds": seconds,
            "gib": models.peak_gib(),
        }

    return measure


PARTS: dict[str, Callable[..., Figures]] = {
    "tests": run_tests,
    "train dalm": training("--objective", "dalm"),
    "train in-batch": training("--candidates", "in-batch"),
    "train index": training("--candidates", "index"),
    "train 4-bit": four_bit,
    "encode": encoding,
    "refresh": refreshing,
    "generate 1": generation(1),
    "generate 16": generation(16),
}
