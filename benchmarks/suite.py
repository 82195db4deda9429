"""Run all benchmarks, each in a process of its own, and go on where an earlier run was stopped.

    python benchmarks/suite.py [NAME ...] [--again] [--minutes 55]

A benchmark is a script of this folder that writes tables into the docs. What each did is a line of
outputs/benchmarks/done.jsonl, its output is NAME.log beside it. A script that failed is tried again
by the next call, one that succeeded isn't, until all have succeeded or `--again` forgets them. A
call begins nothing after so many minutes, the longest scripts last. The last line says what was
written where, and what wasn't.
"""

import argparse
import ast
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUTPUTS = HERE.parent / "outputs" / "benchmarks"
LEFT_OUT = {
    "gpu": "needs a GPU: inv gpu",
    "gradient_cache_error": "takes hours",
    "medquad": "trains an epoch and evaluates it, and measures no speed",
    "quantised_vectors": "starts a PostgreSQL server, and says little that changes",
}
LONGEST = ("joint_training", "pretraining")
WRITTEN = re.compile(r"^wrote table (\w+) in (docs/[\w.]+)$", re.MULTILINE)


def tables_of(script: Path) -> list[str]:
    """Return the names of the tables that a script writes."""
    calls = (node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call))
    tables = (c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "table")
    return [name.value for c in tables if isinstance(name := c.args[0], ast.Constant)]


def benchmarks(folder: Path) -> dict[str, Path]:
    """Return the scripts that write a table, by name, but for those that are left out."""
    scripts = {path.stem: path for path in sorted(folder.glob("*.py"))}
    names = [name for name, path in scripts.items() if name not in LEFT_OUT and tables_of(path)]
    return {name: scripts[name] for name in sorted(names, key=lambda name: name in LONGEST)}


class Done:
    """The lines of what was run, in a file that a killed run leaves whole."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def lines(self) -> dict[str, dict[str, Any]]:
        """Return the last line of each script."""
        texts = self.file.read_text().splitlines() if self.file.exists() else []
        return {line["name"]: line for line in map(json.loads, texts)}

    def succeeded(self) -> set[str]:
        """Return the names of the scripts that are not to be run again."""
        return {name for name, line in self.lines().items() if line["code"] == 0}

    def add(self, line: dict[str, Any]) -> None:
        """Append a line."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


def run(name: str, script: Path, log: Path) -> dict[str, Any]:
    """Run a script, show and keep its output, and return its line."""
    print(f"\n## {name}", flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    begun, used = time.perf_counter(), cpu_seconds()
    command = [sys.executable, "-u", str(script)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with (
        log.open("w", encoding="utf-8") as out,
        subprocess.Popen(command, text=True, errors="replace", **pipes) as process,
    ):
        for line in process.stdout or ():
            print(line, end="", flush=True)
            out.write(line)
    code = process.returncode
    return {
        "name": name,
        "code": code,
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(cpu_seconds() - used, 1),
        "wrote": [list(found) for found in WRITTEN.findall(log.read_text(encoding="utf-8"))],
    }


def cpu_seconds() -> float:
    """Return the CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def summary(chosen: Sequence[str], lines: dict[str, dict[str, Any]]) -> str:
    """Return what was written where, and which scripts failed, in one line."""
    pages: dict[str, list[str]] = {}
    for name in chosen:
        for table, page in lines[name]["wrote"] if name in lines else ():
            pages.setdefault(page, []).append(table)
    parts = [f"{page}: {', '.join(names)}" for page, names in sorted(pages.items())]
    minutes = sum(lines[name]["seconds"] for name in chosen if name in lines) / 60
    said = f"wrote {'; '.join(parts) or 'nothing'} ({minutes:.0f} min)"
    failed = [name for name in chosen if name in lines and lines[name]["code"]]
    said += f"; failed: {', '.join(failed)}, see outputs/benchmarks" if failed else ""
    left = [name for name in chosen if name not in lines]
    return said + (f"; left for the next call: {', '.join(left)}" if left else "")


def main() -> None:
    """Run what has not succeeded yet."""
    found = benchmarks(HERE)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="some only")
    parser.add_argument("--again", action="store_true", help="forget what has been run")
    parser.add_argument("--minutes", type=float, default=55, help="begin nothing after so many")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    if unknown := [name for name in given.names if name not in found]:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(found)}")
    chosen, done = given.names or list(found), Done(OUTPUTS / "done.jsonl")
    if given.again or done.succeeded() >= set(found):
        done.file.unlink(missing_ok=True)
    for name in chosen:
        if name not in done.succeeded() and time.monotonic() < end:
            done.add(run(name, found[name], OUTPUTS / f"{name}.log"))
    lines = done.lines()
    for name in filter(lines.get, chosen):
        line = lines[name]
        state = "failed" if line["code"] else "done"
        print(f"{name:22} {state:6} {line['seconds']:7.0f} s {line['cpu_seconds']:7.0f} CPU-s")
    print(summary(chosen, lines), flush=True)
    sys.exit(any(name not in lines or lines[name]["code"] for name in chosen))


if __name__ == "__main__":
    main()
