"""Measure how passages, an index and a search grow, and reckon what 100 million passages take.

    python benchmarks/scale.py [--gpu-hour PRICE] [--cpu-hour PRICE] [--within HOURS]

Each stage and size runs in a process of its own, on one thread. What is synthetic: passages of 100
words drawn by a formula, as text files (`split`) or with random signatures and made-up ids
(`write`); random unit vectors instead of an encoder's (`store`, `search`). What is real: the
splitter, the filter of near duplicates and the writer of `dalm passages`; the path of `dalm index`
into LanceDB; exact search. Memory is the peak above that of the imports.

The second table is arithmetic: the first table's largest sizes and their growth, and assumptions
that the options give: a GPU's sustained rate, an encoder's weights, prices by the hour. The default
price is 1: then cost is in hours.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from common import child, resident, row, table

SIZES = {
    "split": [10_000, 100_000],
    "write": [10_000, 100_000, 1_000_000],
    "store": [10_000, 100_000],
    "search": [10_000, 100_000, 1_000_000],
}
WORDS, DIM, K = 100, 384, 10
BATCH = 1000  # passages of a batch, as a table's are
TARGET = 100_000_000


def words_of(number: int) -> str:
    """Return a passage's text, of as many words as they have by default."""
    return " ".join(
        f"w{(number * 7919 + place * place * 104729) % 50021}" for place in range(WORDS)
    )


def split(count: int) -> None:
    """Read and split documents of ten passages each, as each worker does."""
    from dalm.config import Passages
    from dalm.ingest.ingestion import Ingester, make_batches
    from dalm.ingest.loaders import find_files

    before = 1024**2 * resident()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count // 10):
            texts = [f"{words_of(number * 10 + part)}." for part in range(10)]
            Path(folder, f"{number}.txt").write_text("\n\n".join(texts))
        settings = Passages(output="passages.jsonl")
        files, _ = find_files([folder])
        begun, ingester, found = time.process_time(), Ingester(settings), 0
        for batch in make_batches(files, ingester.loader_options):
            found += len(ingester(batch).lines)
    report(begun, found, before)


def write(count: int) -> None:
    """Filter and write passages, as the command itself does with the workers' results."""
    import numpy as np

    from dalm.ingest.ingestion import BatchResult
    from dalm.ingest.left_out import Place
    from dalm.ingest.near_duplicates import FUNCTIONS
    from dalm.ingest.passage_writer import PassageWriter

    before = 1024**2 * resident()
    random, seconds = np.random.default_rng(0), 0.0
    with tempfile.TemporaryFile("w+b") as out:
        writer = PassageWriter(out, 0.8)
        for start in range(0, count, BATCH):
            numbers = range(start, start + BATCH)
            ids = [f"{(number * 0x9E3779B97F4A7C15) % (1 << 64):016x}" for number in numbers]
            batch = BatchResult(
                0,
                ids,
                [Place(f"d{number // 10}", f"s{number // 1000}", number) for number in numbers],
                [b"x" * 800 + b"\n" for _ in numbers],
                random.integers(0, 256, (BATCH, FUNCTIONS), np.uint8),
            )
            begun = time.process_time()
            writer.add(batch)
            seconds += time.process_time() - begun
    report(time.process_time() - seconds, writer.counts.new, before)


def store(count: int) -> None:
    """Store passages with random vectors, as `dalm index` does, and prepare the search."""
    import torch

    from dalm.records import Passage
    from dalm.retrieval.indexing import update
    from dalm.retrieval.stores.lance import LanceStore

    before = 1024**2 * resident()
    made = torch.Generator().manual_seed(0)

    def encode(blocks: Any) -> Iterator[torch.Tensor]:
        for texts in blocks:
            vectors = torch.randn(len(texts), DIM, generator=made)
            yield torch.nn.functional.normalize(vectors)

    with tempfile.TemporaryDirectory() as folder:
        passages = [
            Passage.of(f"{number} {' '.join(words_of(number).split()[:10])}")
            for number in range(count)
        ]
        index, begun = LanceStore(Path(folder), DIM, {}), time.process_time()
        update(index, passages, encode, prune=False)
        stored = time.process_time() - begun
        index.optimise(in_use=False)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        report(begun, index.count(), before, stored=stored, disk=size)


def search(count: int) -> None:
    """Search ten nearest vectors of a query by products with all, 32 queries at a time."""
    import torch

    from dalm.records import Passage
    from dalm.retrieval.exact import ExactIndex

    before = 1024**2 * resident()
    made = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(count, DIM, generator=made))
    index = ExactIndex([Passage("", "")] * count, vectors)
    queries = torch.nn.functional.normalize(torch.randn(32, DIM, generator=made))
    index.search(queries[:1], K)
    begun = time.process_time()
    index.search(queries, K)
    report(begun, len(queries), before)


STAGES: dict[str, Callable[[int], None]] = {
    "split": split,
    "write": write,
    "store": store,
    "search": search,
}
LABELS = {
    "split": "passages: read and split (in the workers)",
    "write": "passages: near duplicates and writing (in the command)",
    "store": "index: stored and prepared, vectors given",
    "search": "exact search, a query",
}


def report(begun: float, done: int, before: float, **more: float) -> None:
    """Print what a stage took, as JSON."""
    seconds = time.process_time() - begun
    print(
        json.dumps(
            {"seconds": seconds, "done": done, "bytes": 1024**2 * resident() - before, **more}
        )
    )


def growth(sizes: list[int], values: list[float]) -> float:
    """Return the exponent by which a value grew between the two largest sizes."""
    if len(sizes) < 2 or min(values[-2:]) <= 0:
        return 1.0
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def measure(largest: int, kept: Path | None) -> dict[str, dict[int, dict[str, float]]]:
    """Measure every stage and size that isn't among the results kept in a file."""
    known = json.loads(kept.read_text()) if kept and kept.exists() else {}
    found: dict[str, dict[int, dict[str, float]]] = {stage: {} for stage in STAGES}
    for stage, counts in SIZES.items():
        for count in (count for count in counts if count <= largest):
            name = f"{stage} {count}"
            if name not in known:
                known[name] = child(Path(__file__), "--stage", stage, "--count", str(count))
                if kept:
                    kept.write_text(json.dumps(known))
            print(name, known[name], file=sys.stderr, flush=True)
            found[stage][count] = known[name]
    return found


def seconds_of(stage: str, one: dict[str, float]) -> float:
    return one["seconds"] / one["done"] if stage == "search" else one["seconds"]


def measured(found: dict[str, dict[int, dict[str, float]]], *, trial: bool) -> None:
    rows = []
    for stage, by_count in found.items():
        counts = sorted(by_count)
        times = [seconds_of(stage, by_count[count]) for count in counts]
        for count, seconds in zip(counts, times, strict=True):
            one = by_count[count]
            disk = f"{one['disk'] / count:,.0f}" if "disk" in one else ""
            held = f"{one['bytes'] / 1e6:,.0f}" if stage != "search" else ""  # making its vectors
            rows.append(
                row(LABELS[stage], f"{count:,}", f"{seconds:,.3g}", f"{seconds / count * 1e6:,.3g}",
                    held, disk,
                    f"{growth(counts, times):.2f}" if count == counts[-1] else "")
            )  # fmt: skip
    heading = ["stage", "passages", "CPU s", "µs a passage", "MB", "bytes a passage on disk",
               "exponent"]  # fmt: skip
    title = f"Measured on synthetic passages and vectors of {DIM} dimensions"
    table("scale_measured", title, heading, rows, trial=trial)


def reckoned(
    found: dict[str, dict[int, dict[str, float]]], given: argparse.Namespace, *, trial: bool
) -> None:
    """Print what `TARGET` passages take, from the largest size measured and its growth."""

    def hours(stage: str) -> float:
        counts = sorted(found[stage])
        times = [seconds_of(stage, found[stage][count]) for count in counts]
        power = max(1.0, growth(counts, times))
        return times[-1] * (TARGET / counts[-1]) ** power / 3600

    def gigabytes(stage: str) -> float:
        counts = sorted(found[stage])
        return found[stage][counts[-1]]["bytes"] * TARGET / counts[-1] / 1e9

    encoding = TARGET * given.tokens * 2 * given.weights / given.flops / 3600
    vectors = TARGET * DIM * 4 / 1e9
    disk = found["store"][max(found["store"])]["disk"] * TARGET / max(found["store"]) / 1e9
    text = TARGET * 0.8e-6
    lines = [
        ("passages, in workers", hours("split"), text, "CPU", "one CPU each, any number"),
        ("passages, in the command", hours("write"), gigabytes("write"), "CPU",
         "one process: the memory of its filter"),
        ("embedding", encoding, vectors, "GPU", "GPUs, any number"),
        ("index", hours("store"), disk, "CPU", "one process, one folder"),
        ("one exact search", hours("search"), vectors, "CPU", "memory's bandwidth"),
        ("one refresh in training", encoding, vectors, "GPU",
         "all ranks wait for it; the vectors are sharded over them"),
    ]  # fmt: skip
    price = {"CPU": given.cpu_hour, "GPU": given.gpu_hour}
    rows = [
        row(name, f"{took:,.3g} {unit}", f"{size:,.0f}", f"{math.ceil(took / given.within):,}",
            f"{took * price[unit]:,.3g}", limit)
        for name, took, size, unit, limit in lines
    ]  # fmt: skip
    heading = ["stage", "hours", "GB", f"machines for {given.within:g} h", "cost", "limit"]
    title = (
        f"Reckoned for {TARGET:,} passages of {given.tokens} tokens and {DIM} dimensions, an "
        f"encoder of {given.weights / 1e6:,.0f} million weights, {given.flops / 1e12:g} TFLOP/s "
        f"sustained by a GPU, and prices of {given.cpu_hour:g} an hour of a CPU and "
        f"{given.gpu_hour:g} of a GPU"
    )
    table("scale_reckoned", title, heading, rows, trial=trial)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=1_000_000, help="leave out larger sizes")
    parser.add_argument("--kept", type=Path, help="file of results, to go on after a kill")
    parser.add_argument("--tokens", type=int, default=130, help="of a passage")
    parser.add_argument("--weights", type=float, default=1.1e8, help="of the encoder")
    parser.add_argument("--flops", type=float, default=1e14, help="a GPU's operations/s, sustained")
    parser.add_argument("--within", type=float, default=24.0, help="hours that a stage may take")
    parser.add_argument("--cpu-hour", type=float, default=1.0, help="price of a CPU by the hour")
    parser.add_argument("--gpu-hour", type=float, default=1.0, help="price of a GPU by the hour")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        STAGES[given.stage](given.count)
        return
    trial = given.largest < 1_000_000
    found = measure(given.largest, given.kept)
    measured(found, trial=trial)
    reckoned(found, given, trial=trial)


if __name__ == "__main__":
    main()
