"""Kill `dalm index` at random moments, run it again, and compare with an undisturbed run.

    python tools/kill_indexing.py [--kills 6] [--seed 0] [--only NAME ...] [--work-dir DIR]

Every kind of run (build, update, prune, rebuild, calibrate, rollback, keep) is made once without a
break. Then it is started again, killed (SIGKILL) after a random time and run again until it ends;
so many times as make up the kills. Right after each kill a process of its own searches the index in
every mode, with a condition and without: it has to find passages, a rebuild's those of the old
generation or of the new one, or to be told that there is no index yet. Counted are the passages
that were encoded though they were stored (none may be), and those that were encoded again because
the kill came before they were stored (at most a block for each kill). In the end the passages,
their vectors (to the rounding of other batches), the description, the files and the hits have to be
those of the undisturbed run. Runs are forked from one process that has imported everything, so that
a kill costs seconds. Exit code 1: something differs, and the folder stays.
"""

import json
import random
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from kill_training import begin, ended, killed_after, start

from dalm import cli
from dalm.errors import UserError
from dalm.models.loading import Placement
from dalm.models.tiny import build_encoder
from dalm.retrieval.hybrid import Mode, searcher_of
from dalm.retrieval.index_folder import GENERATIONS, Generation, IndexFolder
from dalm.retrieval.indexing import retriever_of

PASSAGES, BLOCK = 400, 16
LINE = "index {table} --index-dir {index} --device cpu --precision fp32"
KINDS = {
    "build": ([], LINE + " --retriever-name-or-path {encoder}"),
    "update": (["build"], LINE.replace("table", "changed")),
    "prune": (["build"], LINE.replace("table", "changed") + " --prune"),
    "rebuild": (["build"], LINE + " --rebuild --retriever-name-or-path {other}"),
    "calibrate": (["build"], LINE + " --calibrate {questions}"),
    "rollback": (["build", "rebuild"], "index --index-dir {index} --rollback"),
    "keep": (["build", "rebuild"], LINE.replace("table", "changed") + " --keep 0"),
}
"""Each kind of run: the kinds of runs that come before it, and its command."""
AGAIN = ("rebuild", "rollback")
"""Kinds that do their work once more if they are run again after it was done."""
MODES: list[tuple[Mode, str | None]] = [
    (mode, where) for mode in ("dense", "text", "hybrid") for where in (None, "Year < 30")
]
MODULES = (
    "sentence_transformers",
    "dalm.retrieval.calibration",
    "dalm.retrieval.hybrid",
    "dalm.retrieval.index_folder",
    "dalm.retrieval.indexing",
    "dalm.retrieval.passage_sources",
    "dalm.retrieval.stores.lance",
)
"""What is imported before the first fork. LanceDB may be imported there, but not used."""


@dataclass
class Round:
    """One run that was killed, run again and ended."""

    kind: str
    kills: int = 0
    answered: int = 0
    encoded: int = 0
    encoded_twice: int = 0
    problems: list[str] = field(default_factory=list)


def make_inputs(folder: Path) -> dict[str, str]:
    """Write small tables and encoders; return their paths by name."""
    texts = [
        f"Engine {place} of the town {place % 17} burns fuel {place % 7}, says sheet {place % 3}."
        for place in range(PASSAGES + 100)
    ]
    rows = [{"Passage": text, "page": n, "Year": n % 90} for n, text in enumerate(texts)]
    tables: dict[str, list[dict[str, Any]]] = {
        "table": rows[:PASSAGES],
        "questions": [{"Query": t, "Passage": t} for t in texts[:20]],
    }
    moved = [row | {"Year": 7} for row in rows[100:150]]
    tables["changed"] = moved + rows[150:]
    for name, content in tables.items():
        lines = (json.dumps(row) + "\n" for row in content)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    shape = {"width": 16, "layers": 2, "heads": 2, "vocabulary": 300, "max_length": 128}
    for seed, name in enumerate(("encoder", "other")):
        build_encoder(texts, folder / name, seed=seed, **shape)
    named = {name: str(folder / f"{name}.jsonl") for name in tables}
    return named | {name: str(folder / name) for name in ("encoder", "other")}


def indexed(line: list[str], journal: Path) -> int:
    """Run `dalm index` in small blocks, and write down the passages that are encoded."""
    from dalm.models.cut_texts import CountingEncoder
    from dalm.retrieval import indexing

    indexing.BLOCK = BLOCK
    encode = CountingEncoder.encode

    def written(self: CountingEncoder, texts: Any) -> Any:
        with journal.open("a") as out:
            out.writelines(json.dumps(text) + "\n" for text in texts)
        return encode(self, texts)

    CountingEncoder.encode = written  # type: ignore[method-assign]
    return cli.run(cli.app, line)


def contents(index: Path, out: Path) -> int:
    """Write down what an index holds, and what a search finds: or what it is told."""
    found: dict[str, Any] = {"stored": stored_in(IndexFolder(index)), "current": None, "told": ""}
    try:
        current = IndexFolder(index).current()
    except UserError as error:
        found["told"] = str(error)
    else:
        found["current"] = searched(current)
    out.write_text(json.dumps(found))
    return 0


def stored_in(folder: IndexFolder) -> dict[int, list[str]]:
    """Return the texts in each generation that can be opened."""
    stored = {}
    for number in folder.numbers():
        with suppress(UserError):  # killed before it had a description or a store
            store = Generation(folder.path / GENERATIONS / str(number)).store
            stored[number] = list(store.texts_of(list(store.digests())).values())
    return stored


def searched(current: Generation) -> dict[str, Any]:
    """Return what a generation holds and finds, and the files of its index but those of its store.

    Left out are the claim's lock and the name of a server's table, which is random.
    """
    placement = Placement(torch.device("cpu"), "fp32")
    encoder = retriever_of(current, placement)
    modes = [searcher_of(current, placement, *mode, encoder=encoder) for mode in MODES]
    found = [mode.search(["Which engine of the town 3 burns?"], 5)[0] for mode in modes]
    index = current.folder.parents[1]
    levels = [path for level in ("*", "*/*", "*/*/*") for path in index.glob(level)]
    digests = current.store.digests()
    return {
        "number": current.number,
        "made": asdict(current.description) | {"table": ""},
        "files": sorted(str(path.relative_to(index)) for path in levels),
        "digests": digests,
        "vectors": current.store.vectors_of(sorted(digests)).tolist(),
        "hits": [[hit.passage.id for hit in hits] for hits in found],
        "relevant": [[hit.relevant for hit in hits] for hits in found],
    }


def in_a_process(function: Callable[[], int], log: Path) -> int:
    """Run a function in a forked process and return its exit code."""
    process = start(function, log)
    while (code := ended(process)) is None:
        time.sleep(0.002)
    return code


def looked_at(index: Path, folder: Path) -> dict[str, Any] | None:
    """Search an index in a process of its own; None if that fails."""
    out = folder / "contents.json"
    if in_a_process(partial(contents, index, out), folder / "log.txt"):
        return None
    return dict(json.loads(out.read_text()))


def different(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return what is not the same in two indexes."""
    names = [name for name in one if name != "vectors" and one[name] != other[name]]
    if "digests" not in names:
        pairs = zip(one["vectors"], other["vectors"], strict=True)
        gap = max(abs(a - b) for v, w in pairs for a, b in zip(v, w, strict=True))
        names += [f"vectors by {gap}"] * (gap > 1e-5)
    return names


@dataclass
class Case:
    """A kind of run: its folder, what was there before, and what an undisturbed run gives."""

    kind: str
    folder: Path
    inputs: dict[str, str]
    seconds: float = 0.0
    encoded: int = 0
    old: Any = None
    whole: Any = None

    def run(self, index: Path, kind: str) -> Callable[[], int]:
        """Return what makes a run of a kind on a folder."""
        line = KINDS[kind][1].format(index=index, **self.inputs).split()
        return partial(indexed, line, self.folder / "encoded.jsonl")

    def begin(self, index: Path) -> None:
        """Copy what was there before."""
        shutil.rmtree(index, ignore_errors=True)
        if (self.folder / "before").exists():
            shutil.copytree(self.folder / "before", index)

    def encoded_since(self) -> list[str]:
        """Return the texts that were encoded since this was called last."""
        journal = self.folder / "encoded.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        journal.unlink(missing_ok=True)
        return [json.loads(line) for line in lines if line.endswith('"')]

    def stored(self, found: dict[str, Any]) -> set[str]:
        """Return the texts that a run doesn't have to encode; a rebuild: those it has built."""
        first = 2 if self.kind == "rebuild" else 1
        stored = found["stored"].items()
        return {text for number, texts in stored if int(number) >= first for text in texts}

    def wrong_answer(self, found: dict[str, Any] | None) -> str:
        """Return what is wrong with what a search found after a kill; empty if it is right."""
        if found is None:
            return "a search failed"
        if found["current"] is None:
            first = self.old is None and "is not an index; build it" in found["told"]
            return "" if first else f"a search was told {found['told']}"
        hits = found["current"]["hits"]
        if self.kind in ("update", "prune", "keep"):  # in place, block by block
            right = all(len(each) == 5 for each in hits)
        else:
            right = hits in [each["hits"] for each in (self.old, self.whole) if each]
        return "" if right else f"a search found {hits}"

    def is_done(self, found: dict[str, Any]) -> bool:
        """Tell whether a run that must not be run again had done all when it was killed."""
        now = found["current"]
        return self.kind in AGAIN and now is not None and now["number"] == self.whole["number"]


def play(case: Case, most: int) -> Round:
    """Run a kind until it ends or was killed `most` times; look at the index after every kill."""
    played, index, found = Round(case.kind), case.folder / "killed", None
    case.begin(index)
    stored = case.stored(looked_at(index, case.folder) or {"stored": {}})
    while True:
        process = start(case.run(index, case.kind), case.folder / "log.txt")
        after = random.uniform(0, case.seconds) if played.kills < most else 1e9
        was_killed = killed_after(process, after)
        texts = case.encoded_since()
        played.encoded += len(texts)
        played.encoded_twice += sum(text in stored for text in texts)
        found = looked_at(index, case.folder)
        if wrong := case.wrong_answer(found):
            played.problems.append(f"killed after {after:.2f} s: {wrong}")
            return played
        assert found is not None
        if was_killed:
            played.kills += 1
            played.answered += 1
            stored = case.stored(found)
            where = f"{len(texts)} encoded, {len(stored)} stored"
            print(f"{case.kind:<10} killed after {after:.2f} s: {where}", flush=True)
        if not was_killed or case.is_done(found):
            break
    played.problems += different(case.whole, found["current"])
    if played.encoded - case.encoded > BLOCK * played.kills:
        played.problems.append(f"{played.encoded - case.encoded} passages encoded again")
    return played


def undisturbed(kind: str, inputs: dict[str, str], folder: Path) -> Case:
    """Make the undisturbed run of a kind, and what has to be there before it."""
    folder.mkdir()
    case, log = Case(kind, folder, inputs), folder / "log.txt"
    for each in KINDS[kind][0]:
        assert in_a_process(case.run(folder / "before", each), log) == 0, log.read_text()
    case.begin(folder / "whole")
    case.old = (looked_at(folder / "whole", folder) or {})["current"]
    case.encoded_since()
    begun = time.monotonic()
    assert in_a_process(case.run(folder / "whole", kind), log) == 0, log.read_text()
    case.seconds = time.monotonic() - begun
    case.encoded = len(case.encoded_since())
    case.whole = (looked_at(folder / "whole", folder) or {})["current"]
    print(f"{kind:<10} undisturbed: {case.encoded} passages encoded in {case.seconds:.1f} s")
    return case


def torture(kind: str, inputs: dict[str, str], folder: Path, kills: int) -> list[Round]:
    """Make the undisturbed run of a kind, then killed ones until there were so many kills."""
    case = undisturbed(kind, inputs, folder / kind)
    rounds: list[Round] = []
    while (left := kills - sum(each.kills for each in rounds)) > 0:
        rounds.append(play(case, min(left, 5)))
        said = "; ".join(rounds[-1].problems) or "equal"
        print(f"{kind:<10} ended after {rounds[-1].kills} kills: {said}", flush=True)
        if rounds[-1].problems:
            break
    for each in rounds:
        each.encoded -= case.encoded
    return rounds


def print_table(rounds: list[Round]) -> None:
    """Print for each kind: kills, searches answered, passages encoded again, equal ends."""
    print(
        f"\n{'run':<10}{'kills':>6}{'answered':>10}{'encoded, not stored':>21}"
        f"{'encoded though stored':>23}{'ends':>6}{'equal':>7}"
    )
    for kind in dict.fromkeys(each.kind for each in rounds):
        of_kind = [each for each in rounds if each.kind == kind]
        names = ("kills", "answered", "encoded", "encoded_twice")
        kills, answered, again, twice = (sum(getattr(r, n) for r in of_kind) for n in names)
        equal = sum(not each.problems for each in of_kind)
        print(
            f"{kind:<10}{kills:>6}{answered:>10}{again:>21}{twice:>23}{len(of_kind):>6}{equal:>7}"
        )


def main() -> int:
    warnings.filterwarnings("ignore", "lancedb fork support is experimental")
    given, folder = begin(__doc__, KINDS, MODULES, kills=6)
    inputs = make_inputs(folder)
    rounds = [each for kind in given.only for each in torture(kind, inputs, folder, given.kills)]
    print_table(rounds)
    if any(each.problems or each.encoded_twice for each in rounds):
        print(f"\nsomething differs; see {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
