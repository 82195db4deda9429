"""Measure training, encoding, an index and generation on one GPU at the sizes that people use.

    python benchmarks/gpu.py [--tiny] [--minutes 10] [PART ...]

Each part is a process of its own and a line of benchmarks/results/gpu.jsonl. A call begins nothing
after so many minutes; the next one on a GPU of the same name goes on from there, also after a part
that failed. Tables are written into docs/benchmarks.md from all lines. The parts and what each
measures are in gpu_parts.py, the models in gpu_models.py. What time is left goes to the larger half
of the comparison of teachers, whose results are lines of their own.

`--tiny`, or no GPU: models of a few thousand weights on whatever device there is, to see that every
part runs; their lines go to outputs/gpu-tiny.jsonl, and no table is written.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import ROOT, row, table
from machine import machine, provenance

RESULTS = ROOT / "benchmarks" / "results" / "gpu.jsonl"
TINY = ROOT / "outputs" / "gpu-tiny.jsonl"
TRAINING = {
    "train dalm": "`--objective dalm`, one passage",
    "train in-batch": "`rag_token`, 4 passages of the batch",
    "train index": "`rag_token`, 8 passages of the index",
    "train 4-bit": "`rag_token`, 4 passages of the batch, 4-bit weights",
}
LARGER = ("covidqa-larger", "covidqa-reworded-larger", "pubmedqa-larger", "medquad-larger")
Line = dict[str, Any]


def lines_of(file: Path) -> list[Line]:
    """Return the lines so far, the last of each part on each device."""
    texts = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = [json.loads(text) for text in texts]
    return list({(line["device"], line["part"]): line for line in lines}.values())


def run_part(name: str, *, tiny: bool) -> Line | None:
    """Measure a part in a process of its own; say why if it fails."""
    print(f"{name} ...", flush=True)
    start = time.perf_counter()
    command = [sys.executable, __file__, "--child", name, *["--tiny"] * tiny]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - start, 1)
    if done.returncode:
        print(f"{name} failed after {seconds} s:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
        return None
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{name}: {seconds} s, {figures}", flush=True)
    return {"part": name, "device": machine(), "seconds": seconds, "origin": provenance()} | figures


def measure(name: str, *, tiny: bool) -> Line:
    """Measure a part in this process."""
    import gpu_models
    from gpu_parts import PARTS

    folder = Path(tempfile.gettempdir()) / ("dalm-gpu-tiny" if tiny else "dalm-gpu")
    if name != "tests":
        gpu_models.prepare(folder, tiny=tiny)
    return PARTS[name](folder, tiny=tiny)


def run_parts(names: list[str], file: Path, end: float, *, tiny: bool) -> list[str]:
    """Run the parts that this device has no line of; return those that failed or are left."""
    left = []
    for name in names:
        if any((e["part"], e["device"]) == (name, machine()) for e in lines_of(file)):
            continue
        line = run_part(name, tiny=tiny) if time.monotonic() < end else None
        if line is None:
            left.append(name)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
    return left


def run_larger_experiments(end: float) -> None:
    """Go on with the experiments that only a GPU can run, which know where they stopped."""
    minutes = (end - time.monotonic()) / 60
    if minutes > 0:
        script = str(ROOT / "experiments" / "retriever_teachers.py")
        seeds = ["--seeds", "1", "2", "3", "4", "5", "--minutes", f"{minutes:.1f}"]
        subprocess.run([sys.executable, script, *LARGER, *seeds], check=False)


def tables(lines: list[Line], *, trial: bool) -> None:
    """Write the tables of all devices."""
    measured = [line for line in lines if "skipped" not in line]
    trained = [line for line in measured if line["part"] in TRAINING]
    used = [line for line in measured if line["part"].split()[0] in USES]
    if trained:
        heading = ("device", "training", "questions/s", "tokens/s", "TFLOP/s", "of the peak", "GiB")
        rows = [training_row(line) for line in trained]
        origin = trained[-1]["origin"]
        table("gpu_training", "Joint training", heading, rows, trial=trial, origin=origin)
    if used:
        heading = ("device", "work", "tokens/s", "of the peak", "GiB", "measured or extrapolated")
        rows = [USES[line["part"].split()[0]](line) for line in used]
        origin = used[-1]["origin"]
        table("gpu_use", "Encoding and generation", heading, rows, trial=trial, origin=origin)


def training_row(line: Line) -> tuple[str, ...]:
    """Return a line of the first table."""
    return row(
        *(line["device"], TRAINING[line["part"]], f"{line['samples_per_second']:.1f}"),
        *(f"{line['tokens_per_second']:,.0f}", f"{line['flops'] / 1e12:.1f}"),
        *(f"{line['flops'] / line['peak_flops']:.0%}", f"{line['gib']:.1f}"),
    )


def encoding_row(line: Line) -> tuple[str, ...]:
    """Return the line of encoding."""
    said = (
        f"a million: {line['minutes_for_a_million']:.1f} min, extrapolated from {line['slice']:,}"
    )
    said += f"; tokenising them {line['minutes_to_tokenise_a_million']:.1f} min"
    share = f"{line['flops'] / line['peak_flops']:.0%}"
    tokens = f"{line['tokens_per_second']:,.0f}"
    return row(line["device"], "encoding passages", tokens, share, f"{line['gib']:.1f}", said)


def refreshing_row(line: Line) -> tuple[str, ...]:
    """Return the line of refreshing an index."""
    said = f"encoding {line['encoding_minutes']:.1f} min, extrapolated from {line['slice']:,}; "
    said += f"moving the vectors {line['moving_seconds']:.1f} s, "
    said += f"search of a batch {line['search_milliseconds']:.1f} ms, both measured"
    work = f"refreshing {line['vectors']:,} vectors"
    return row(line["device"], work, "", "", f"{line['gib']:.1f}", said)


def generation_row(line: Line) -> tuple[str, ...]:
    """Return a line of generation."""
    said = f"{line['new_tokens']:,} new tokens in {line['seconds']:.1f} s, measured"
    work = f"generation, {line['batch']} at once"
    tokens = f"{line['tokens_per_second']:,.0f}"
    return row(line["device"], work, tokens, "", f"{line['gib']:.1f}", said)


USES = {"encode": encoding_row, "refresh": refreshing_row, "generate": generation_row}


def main() -> None:
    """Run what is left of the parts, and write the tables."""
    from gpu_parts import PARTS

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true", help="a few thousand weights, any device")
    parser.add_argument("--minutes", type=float, default=10, help="begin nothing after so many")
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.child, tiny=given.tiny)))
        return
    if unknown := [name for name in given.parts if name not in PARTS]:
        parser.error(f"no part is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    tiny = given.tiny or not torch.cuda.is_available()
    if tiny:
        print("tiny models, to see that every part runs; nothing here says how fast a GPU is")
    file, end = TINY if tiny else RESULTS, time.monotonic() + 60 * given.minutes
    left = run_parts(given.parts or list(PARTS), file, end, tiny=tiny)
    tables(lines_of(file), trial=tiny)
    if not (tiny or given.parts):
        run_larger_experiments(end)
    print(f"lines are in {file.relative_to(ROOT)}")
    if left:
        sys.exit(f"not done: {', '.join(left)}; the same command goes on from there")


if __name__ == "__main__":
    main()
