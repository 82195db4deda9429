"""Measure how long commands take to start: CPU seconds and seconds, beside an import alone.

    python benchmarks/startup.py [--quick]

`python -c "import sentence_transformers"`, which training can't do without, takes turns with
`dalm --help`, with `dalm train-retriever-only` on a table that it refuses (no column of passages),
and with the same command until training would begin (`--dry-run` on 64 rows of MedQuAD, which loads
all-MiniLM-L6-v2 and tries a batch, whose seconds it prints: they are taken off). Each is a process
of its own, one thread, its modules in the disk's cache.
"""

import csv
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import data, minilm, row, table

QUICK = "--quick" in sys.argv
TURNS, ROWS = (1 if QUICK else 3), 64
IMPORT = '`python -c "import sentence_transformers"`'
BATCH = re.compile(r"took (\S+) s forward and backward")


def measure(line: list[str], code: int) -> tuple[float, float]:
    """Return the CPU seconds and seconds of a process, which ends with `code`, but for a batch."""
    start, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if done.returncode != code:
        sys.exit(done.stderr)
    cpu, seconds = cpu_seconds() - used, time.perf_counter() - start
    batch = sum(map(float, BATCH.findall(done.stdout + done.stderr)))
    return cpu - batch, seconds - batch


def cpu_seconds() -> float:
    """Return the CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tables(folder: Path) -> tuple[str, str]:
    """Write a table of few rows and one without passages."""
    with Path(data("medquad_train.csv")).open(encoding="utf-8", newline="") as file:
        rows = [cells for _, cells in zip(range(ROWS), csv.DictReader(file), strict=False)]
    for name, columns in (("rows", list(rows[0])), ("wrong", ["Query", "Answer"])):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    return str(folder / "rows.csv"), str(folder / "wrong.csv")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        right, wrong = tables(Path(folder))
        train = [sys.executable, "-m", "dalm", "train-retriever-only", minilm()]
        out = ["--output-dir", str(Path(folder) / "out"), "--device", "cpu"]
        lines = {
            IMPORT: ([sys.executable, "-c", "import sentence_transformers"], 0),
            "`dalm --help`": ([sys.executable, "-m", "dalm", "--help"], 0),
            "`dalm train-retriever-only`, table refused": ([*train, wrong, *out], 2),
            "`dalm train-retriever-only`, until it trains": ([*train, right, *out, "--dry-run"], 0),
        }
        for line in lines.values():  # modules into the disk's cache
            measure(*line)
        seen = [{name: measure(*line) for name, line in lines.items()} for _ in range(TURNS)]
    rows = []
    for name in lines:
        cpu, seconds = (statistics.median(turn[name][n] for turn in seen) for n in (0, 1))
        ratio = statistics.median(turn[name][0] / turn[IMPORT][0] for turn in seen)
        rows.append(row(name, f"{cpu:.2f}", f"{seconds:.2f}", f"{ratio:.2f}"))
    heading = ("command", "CPU s", "s", "CPU s : the import's")
    table("startup", "Start of a command", heading, rows, trial=QUICK)


if __name__ == "__main__":
    main()
