"""Make one set of labels with `dalm score-candidates`, and measure it against the gold passages.

    python teacher_labels.py '{"domain": ..., "name": ..., "seed": 1, "options": {}}'

Prints JSON: the cost, and, over the training questions and by where their answers stand, the share
that is labelled, whose label is a gold passage, and that has one among its candidates. `answers`:
`shuffled` gives every question another's answer. `positive`: instead of what a teacher says,
`random` takes one of the question's candidates. `agrees_with`: the cell of other labels; questions
to which those give another positive are left unlabelled.
"""

import json
import os
import random
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from common import WORK, rows_of, write_rows
from domains import FOLDER, STRATA, domain, stratum

Cell = dict[str, Any]


def main() -> None:
    cell = json.loads(sys.argv[1])
    start, cpu = time.perf_counter(), time.process_time()
    file = make(cell)
    cost = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "prompt_tokens": prompt_tokens(file, cell["options"]),
    }
    print(json.dumps({**cost, "labels": quality(file, cell["domain"])}))


def file_of(cell: Cell) -> Path:
    """Return where a set of labels is kept."""
    name = cell["name"].replace(": ", "/").replace(" ", "-").replace(",", "")
    return FOLDER / "labels" / f"{name}-{cell['seed']}.jsonl"


def make(cell: Cell) -> Path:
    """Return the table of labels, which is made if it is missing."""
    from dalm import ScoreCandidates, score_candidates

    file = file_of(cell)
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}.jsonl")
    tables = domain(cell["domain"])
    questions = tables.gold if "gold" in cell["options"]["teacher"] else tables.train
    if cell.get("answers") == "shuffled":
        questions = _shuffled(questions, cell["seed"])
    shared = {"passages": [tables.passages], "cache_dir": str(WORK / "cache")}
    options = {**shared, **cell["options"], "output": str(unfinished)}
    score_candidates(questions, ScoreCandidates(**options))
    if cell.get("positive") == "random":
        _draw_positives(unfinished, cell["seed"])
    if cell.get("agrees_with"):
        _keep_agreed(unfinished, make(cell["agrees_with"]))
    unfinished.rename(file)
    return file


def _shuffled(questions: str, seed: int) -> str:
    rows = rows_of(Path(questions))
    others = [row["Answer"] for row in rows]
    random.Random(seed).shuffle(others)
    mixed = [row | {"Answer": answer} for row, answer in zip(rows, others, strict=True)]
    return write_rows(Path(questions).with_name(f"shuffled-{seed}.csv"), ("Query", "Answer"), mixed)


def _draw_positives(file: Path, seed: int) -> None:
    drawn = random.Random(seed)
    lines = _lines(file)
    for line in lines:
        chosen = drawn.choice(line["Candidates"])
        line |= {"Title": chosen["title"], "Passage": chosen["text"], "Negatives": []}
    _write(file, lines)


def _keep_agreed(file: Path, other: Path) -> None:
    lines = _lines(file)
    for line, theirs in zip(lines, _lines(other), strict=True):
        assert line["Query"] == theirs["Query"]
        if line["Passage"] != theirs["Passage"]:
            line |= {"Title": None, "Passage": None, "Negatives": []}
    _write(file, lines)


def _lines(file: Path) -> list[Cell]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _write(file: Path, lines: list[Cell]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def quality(file: Path, name: str) -> dict[str, dict[str, float]]:
    """Return the labels' counts over all training questions and by stratum.

    `labelled`: those that have a positive. `right`: whose positive is a gold passage. `best`: whose
    best candidate is one. `within`: that have one among the candidates.
    """
    from dalm.records import normalise, question_id

    tables = domain(name)
    gold: dict[str, set[str]] = defaultdict(set)
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows_of(Path(tables.gold)):
        gold[question_id(row["Query"])].add(normalise(row["Passage"]))
        answers[question_id(row["Query"])].add(row["Answer"])
    texts = [row["Passage"] for row in rows_of(Path(tables.passages))]
    counts: dict[str, dict[str, float]] = {
        each: dict.fromkeys(("questions", "labelled", "right", "best", "within"), 0)
        for each in ("all", *STRATA)
    }
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        right = gold[question_id(line["Query"])]
        found = [normalise(each["text"]) for each in line["Candidates"]]
        positive = normalise(line["Passage"] or "")
        values = (1, bool(positive), positive in right, found[:1] and found[0] in right)
        values = (*values, any(each in right for each in found))
        for each in ("all", stratum(answers[question_id(line["Query"])], texts)):
            for key, value in zip(counts[each], values, strict=True):
                counts[each][key] += bool(value)
    return counts


def prompt_tokens(file: Path, options: dict[str, Any]) -> int:
    """Return the tokens that a reader has read: its prompts, one for each candidate."""
    name = options.get("generator_name_or_path")
    if name is None:
        return 0
    from dalm.models.generator import load_generator
    from dalm.models.loading import place

    reader = load_generator(name, place("cpu", "fp32"), max_length=options["generator_max_len"])
    around, total = reader.frame.overhead(1), 0
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        texts = [each["text"] for each in line["Candidates"]]
        asked = sum(map(len, reader.tokenise([line["Query"], line["Answer"]])))
        lengths = (len(each) + asked + around for each in reader.tokenise(texts))
        total += sum(min(length, reader.max_length) for length in lengths)
    return total


if __name__ == "__main__":
    main()
