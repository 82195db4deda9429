"""Measure how fast documents are split, by kind of file and number of processes."""

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import DATA, row, table

PER_FILE = 40  # texts in a document


def texts() -> Iterator[tuple[str, str]]:
    """Yield the titles and passages of all tables, each once."""
    seen = set()
    for path in sorted(DATA.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for cells in csv.DictReader(file):
                if cells["Passage"] not in seen:
                    seen.add(cells["Passage"])
                    yield cells["Title"], cells["Passage"]


def write(folder: Path, kind: str) -> int:
    """Write the texts as documents of one kind and return their bytes."""
    rows = list(texts())
    if kind == "jsonl":
        lines = (json.dumps({"title": title, "text": text}) + "\n" for title, text in rows)
        (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    for start in range(0, 0 if kind == "jsonl" else len(rows), PER_FILE):
        part = rows[start : start + PER_FILE]
        if kind == "html":
            body = "".join(f"<h2>{title}</h2>\n<p>{text}</p>\n" for title, text in part)
        else:
            body = "".join(f"## {title}\n\n{text}\n\n" for title, text in part)
        (folder / f"{start:07}.{kind}").write_text(body, encoding="utf-8")
    return sum(path.stat().st_size for path in folder.iterdir())


def measure(folder: Path, out: Path, *options: str) -> tuple[float, float, int]:
    """Return the command's seconds and CPU seconds, start included, and the passages it wrote."""
    line = [sys.executable, "-m", "dalm", "passages", str(folder), "--output", str(out), *options]
    start, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run(
        [*line, "--overwrite-output"], capture_output=True, text=True, check=False
    )
    seconds, used = time.perf_counter() - start, cpu_seconds() - used
    if done.returncode:
        sys.exit(done.stderr)
    return seconds, used, sum(1 for _ in out.open("rb"))


def cpu_seconds() -> float:
    """Return what processes that have ended used: on a shared machine it says more than time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    ways: dict[str, tuple[str, ...]] = {
        "1 process": (),
        "1 process, exact duplicates only": ("--near-duplicates", "1"),
        "2 processes": ("--processes", "2"),
    }
    rows = []
    for kind in ("md", "html", "jsonl"):
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home) / "docs"
            folder.mkdir()
            size = write(folder, kind)
            for way, options in ways.items():
                seconds, used, passages = measure(folder, Path(home) / "p.jsonl", *options)
                megabytes = size / 1e6
                cells = (kind, way, f"{megabytes:.1f}", f"{passages:,}", f"{seconds:.1f}")
                speeds = (f"{megabytes / seconds:.2f}", f"{megabytes / used:.2f}")
                rows.append(row(*cells, *speeds))
    heading = ("documents", "way", "MB", "passages", "seconds", "MB/s", "MB per CPU second")
    table("passages", "Splitting documents into passages", heading, rows, trial=False)


if __name__ == "__main__":
    main()
