"""Compare what can teach a retriever where nobody has marked the passages that answer.

Every arm (`teacher_arms.py`) of every domain (`domains.py`) is a line of results/teachers.jsonl for
each seed; what its labels cost and how many are right is in results/teacher_labels.jsonl. A run
that is stopped goes on where it was: what has a line isn't run again, and a reader's scores are
kept as they come.

    python experiments/retriever_teachers.py [DOMAIN ...] [--seeds 1 2 3] [--arms TEXT ...]
        [--minutes N]
"""

import argparse
import json
import math
import sys
import time

from common import RESULTS, results, run
from domains import describe
from teacher_arms import (
    COMPARED,
    LABELLED_ONLY,
    LABELS,
    LARGER,
    SETTINGS,
    Arm,
    Options,
    arms,
    cell,
    domain_of,
    label_cell,
)
from teacher_labels import make


def main() -> None:
    known = [*SETTINGS, *LABELLED_ONLY]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ", ".join([*known, *LARGER])
    parser.add_argument("domains", nargs="*", default=known, help=every)
    parser.add_argument("--minutes", type=float, help="begin nothing after so many minutes")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--arms", nargs="*", default=[""], help="only those with this in the name")
    given = parser.parse_args()
    end = time.monotonic() + 60 * (given.minutes or math.inf)
    for seed in given.seeds:
        for name in given.domains:
            if name in LABELLED_ONLY:
                for kind in COMPARED:
                    label(label_cell(name, kind, 1))
                continue
            describe_once(name)
            for arm in arms(name):
                if time.monotonic() > end:
                    sys.exit("the time is over; the same command goes on from here")
                if any(text in arm.name for text in given.arms):
                    run_arm(name, arm, seed)


def run_arm(name: str, arm: Arm, seed: int) -> None:
    """Run an arm's cell and, before it, that of its labels, unless there are results."""
    if is_done("teachers", f"{name}: {arm.name}", seed):
        return
    if arm.table in LABELS and not label(label_cell(name, arm.table, seed)):
        return
    run("teachers", [cell(name, arm, seed)], at_once=1, script="teacher_cell.py")


def label(labels: Options) -> bool:
    """Make a set of labels, unless there is one; return whether there is one then."""
    run("teacher_labels", [labels], at_once=1, script="teacher_labels.py")
    if not is_done("teacher_labels", labels["name"], labels["seed"]):
        return False  # it failed, and has said so
    make(labels)  # its table, if that is gone
    return True


def is_done(experiment: str, name: str, seed: int) -> bool:
    return any((line["name"], line["seed"]) == (name, seed) for line in results(experiment))


def describe_once(name: str) -> None:
    """Write a line on the domain's test questions, unless there is one."""
    if not is_done("teacher_domains", name, 0):
        line = {"name": name, "seed": 0, **describe(domain_of(name))}
        with (RESULTS / "teacher_domains.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
