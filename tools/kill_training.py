"""Kill training runs at random moments, resume them, and compare them with undisturbed ones.

    python tools/kill_training.py [--kills 20] [--seed 0] [--only NAME ...] [--work-dir DIR]

Every kind of run is made once without a break. Then it is started again, killed (SIGKILL) after a
random time, resumed with `--resume-from-checkpoint latest`, perhaps killed again, until it ends;
so many runs as make up the kills. A run killed before its first checkpoint is started anew. The
models are tiny, and runs are forked from one process that has imported everything, so that a kill
costs seconds. The exported weights, metrics.jsonl (but for times and memory) and the figures of
held-out texts have to be the same to the bit. Exit code 1: something differs, and the folder stays.
"""

import argparse
import csv
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
for _name, _value in {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}.items():
    os.environ.setdefault(_name, _value)
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads wouldn't survive a fork

from dalm import cli  # noqa: E402
from dalm.training import checkpoints, metrics_log  # noqa: E402

ROWS = 60
SHARED = "--device cpu --precision fp32 --checkpointing-steps 3 --logging-steps 2 --seed 7"
JOINT = f"train-rag-e2e {{table}} {{encoder}} {{generator}} {SHARED} --batch-size 6 --epochs 4"
KINDS = {
    "in-batch": f"{JOINT} --gradient-accumulation-steps 2 --num-candidates 3 --learning-rate 1e-3 "
    "--generator-max-len 128 --lr-scheduler-type cosine --num-warmup-steps 3 --max-train-steps 18",
    "index": f"{JOINT} --candidates index --objective emdr2 --num-candidates 3 --reader-passages 2 "
    "--reconstruction-weight 0.5 --refresh-budget 0.05 --reader-warmup 0.2 --gold-probability 0.5 "
    "--generator-max-len 200 --learning-rate 1e-3 --weight-decay 0.1 --max-train-steps 25",
    "pretrain": f"pretrain {{texts}} {{generator}} {SHARED} --batch-size 2 --epochs 3 "
    "--sequence-length 64 --gradient-accumulation-steps 2 --evaluation-steps 4 --replay {general} "
    "--replay-ratio 0.25 --learning-rate 1e-3 --max-train-steps 50",
}
"""Each kind of run, as the command that starts it."""
MODULES = (
    "sentence_transformers",
    "dalm.training.run",
    "dalm.training.data.corpus",
    "dalm.training.held_out_evaluation",
    *(f"dalm.training.objectives.{name}" for name in ("rag", "distillation", "causal_lm")),
    "dalm.retrieval.training_index",
)
"""What is imported before the first fork."""


@dataclass
class Round:
    """One run that was killed, resumed and ended."""

    kind: str
    kills: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def make_inputs(folder: Path) -> dict[str, str]:
    """Write small tables and models; return their paths by name."""
    from dalm.models.tiny import build_encoder, build_generator

    with (ROOT / "dalm/datasets/toy_data_train.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(itertools.islice(csv.DictReader(lines), 0, ROWS * 4, 4))
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    general = [f"{row['Query']} {row['Answer']}" for row in rows]
    for name, texts in (("texts", [row["Passage"] for row in rows]), ("general", general)):
        written = (json.dumps({"title": text[:20], "text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text("".join(written))
    texts = [text for row in rows for text in row.values()]
    shape = {"width": 16, "layers": 2, "heads": 2, "seed": 0}
    build_encoder(texts, folder / "encoder", vocabulary=300, max_length=128, **shape)
    build_generator(texts, folder / "generator", vocabulary=400, max_length=256, **shape)
    files = ("table.csv", "texts.jsonl", "general.jsonl", "encoder", "generator")
    return {name.partition(".")[0]: str(folder / name) for name in files}


def start(function: Callable[[], int], log: Path) -> int:
    """Run a function in a forked process that ends with its code; return the process's number."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        with log.open("ab", 0) as out:
            for stream in (1, 2):
                os.dup2(out.fileno(), stream)
        code = function()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def ended(process: int) -> int | None:
    """Return the exit code of a process that has ended; -9 if it was killed."""
    done, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def killed_after(process: int, seconds: float) -> bool:
    """Kill a process when its time is over; return False if it ended well before that.

    Raises RuntimeError if it ended badly.
    """
    limit = time.monotonic() + seconds
    while (code := ended(process)) is None:
        if time.monotonic() >= limit:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return True
        time.sleep(0.001)
    if code:
        raise RuntimeError(f"a run ended with code {code}")
    return False


def state_of(folder: Path) -> str:
    """Return how far a run has come that was killed."""
    steps = [step for step, _ in checkpoints.steps(folder)]
    line = metrics_log.last_line(folder / metrics_log.FILE)
    unfinished = [path.name for path in (folder / checkpoints.WRITING).glob("*")]
    found = f"logged {line.get('step', '-')}, last checkpoint {steps[-1] if steps else '-'}"
    return found + (f", unfinished {' '.join(sorted(unfinished))}" if unfinished else "")


def results(folder: Path) -> dict[str, bytes]:
    """Return what has to be the same: weights by file, lines of metrics, figures."""
    models = [f for part in ("retriever", "generator") for f in (folder / part).rglob("*")]
    found = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in (*models, folder / "bits_per_byte.json")
        if file.is_file() and file.suffix != ".md" and file.name != "manifest.json"
    }
    for number, text in enumerate((folder / metrics_log.FILE).read_text().splitlines()):
        line = {k: v for k, v in json.loads(text).items() if k not in metrics_log.CLOCK}
        found[f"metrics.jsonl, line {number + 1}"] = json.dumps(line).encode()
    return found


def differences(whole: Path, folder: Path) -> list[str]:
    """Return what is not the same in two runs, and what a killed process has left behind."""
    one, other = results(whole), results(folder)
    differing = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    names = {path.name for path in whole.iterdir()}
    return differing + [f"left {p.name}" for p in folder.iterdir() if p.name not in names]


def play(kind: str, command: list[str], whole: Path, seconds: float, most: int) -> Round:
    """Start a run, kill and resume it until it ends or was killed `most` times, and compare."""
    played, folder = Round(kind), whole.with_name("killed")
    shutil.rmtree(folder, ignore_errors=True)
    log = whole.parent / "log.txt"
    again = [*command, "--output-dir", str(folder)]
    while True:
        process = start(partial(cli.run, cli.app, again), log)
        after = random.uniform(0, seconds) if len(played.kills) < most else 1e9
        if not killed_after(process, after):
            played.differences = differences(whole, folder)
            return played
        played.kills.append(f"after {after:.2f} s: {state_of(folder)}")
        print(f"{kind:<9}  killed {played.kills[-1]}", flush=True)
        resume = ["--resume-from-checkpoint", "latest"]
        if not checkpoints.steps(folder):
            resume = ["--overwrite-output-dir"]
        again = [*command, "--output-dir", str(folder), *resume]


def torture(kind: str, inputs: dict[str, str], folder: Path, kills: int) -> list[Round]:
    """Make the undisturbed run of a kind, then killed ones until there were so many kills.

    Runs that ended before their time are compared, too.
    """
    (folder / kind).mkdir()
    command = KINDS[kind].format(**inputs).split()
    whole, begun = folder / kind / "whole", time.monotonic()
    line = [*command, "--output-dir", str(whole)]
    process = start(partial(cli.run, cli.app, line), folder / kind / "log.txt")
    killed_after(process, 1e9)
    seconds = time.monotonic() - begun
    steps = metrics_log.last_line(whole / metrics_log.FILE)["step"]
    print(f"{kind:<9}  undisturbed: {steps} updates in {seconds:.1f} s", flush=True)
    rounds: list[Round] = []
    while (left := kills - sum(len(each.kills) for each in rounds)) > 0:
        rounds.append(play(kind, command, whole, seconds, left))
        said = "; ".join(rounds[-1].differences) or "equal"
        print(f"{kind:<9}  ended after {len(rounds[-1].kills)} kills: {said}", flush=True)
    return rounds


def print_table(rounds: list[Round]) -> None:
    """Print a row for each kind of run: kills, ends, and how many ends were equal in what."""
    print(
        f"\n{'run':<10}{'kills':>6}{'ends':>6}{'same weights':>14}{'same metrics':>14}{'same':>6}"
    )
    for kind in dict.fromkeys(each.kind for each in rounds):
        of_kind = [each for each in rounds if each.kind == kind]
        kills = sum(len(each.kills) for each in of_kind)
        weights = sum(not any("/" in d for d in each.differences) for each in of_kind)
        metrics = sum(not any("metrics" in d for d in each.differences) for each in of_kind)
        same = sum(not each.differences for each in of_kind)
        print(f"{kind:<10}{kills:>6}{len(of_kind):>6}{weights:>14}{metrics:>9}{same:>6}")


def begin(
    description: str, kinds: Iterable[str], modules: Iterable[str], kills: int
) -> tuple[argparse.Namespace, Path]:
    """Read a script's options, import what its forks need; return options and working folder."""
    kinds = list(kinds)
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--kills", type=int, default=kills, help="kills of each kind of run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--work-dir", type=Path, help="empty folder; by default a temporary one")
    given = parser.parse_args()
    folder = given.work_dir or Path(tempfile.mkdtemp(prefix="dalm-kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(given.seed)
    for module in modules:
        importlib.import_module(module)
    cli.import_commands()
    return given, folder


def main() -> int:
    given, folder = begin(__doc__, KINDS, MODULES, kills=20)
    inputs = make_inputs(folder)
    rounds = [each for kind in given.only for each in torture(kind, inputs, folder, given.kills)]
    print_table(rounds)
    if any(each.differences for each in rounds):
        print(f"\nsomething differs; see {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
