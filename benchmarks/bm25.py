"""Measure search by words (BM25) beside bm25s: CPU seconds to build an index and to search it.

    python benchmarks/bm25.py [--quick]

Both get the same terms and parameters, return passages and scores, and take turns in one process.
"""

import csv
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import bm25s
from common import DATA, row, table
from recombined import collection

import dalm.retrieval.bm25
from dalm.analyser import terms
from dalm.records import Passage
from dalm.retrieval.bm25 import BM25, K1, B

QUICK = "--quick" in sys.argv
SIZES = (2_000,) if QUICK else (2_000, 25_000, 100_000)
QUESTIONS, ROUNDS, BUILDS = (200, 3, 1) if QUICK else (1_000, 5, 1)
KS = (10, 100)
PEERS = {"bm25s, numpy": "numpy", "bm25s, numba": "numba"}


def questions() -> list[str]:
    """Return questions of all tables, the same ones each time."""
    found: dict[str, None] = {}
    for path in sorted(DATA.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found |= dict.fromkeys(cells.get("Query") or "" for cells in csv.DictReader(file))
    found.pop("", None)
    return random.Random(0).sample(list(found), QUESTIONS)


def index(backend: str, tokens: list[list[str]]) -> Any:
    made = bm25s.BM25(method="lucene", k1=K1, b=B, backend=backend, csc_backend="auto")
    if backend == "numba":
        made.compile()
    made.index(tokens, show_progress=False)
    return made


def found_by(peer: Any, asked: list[list[str]], k: int, corpus: list[Passage]) -> Any:
    return peer.retrieve(asked, corpus=corpus, k=k, show_progress=False)


def cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turns(works: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], Any]:
    """Return each one's median CPU seconds, and the medians of the first one's ratio to each."""
    for work in works.values():
        work()  # compiles what is compiled
    gc.collect()
    gc.freeze()  # the garbage collector would look through what this script holds
    turns = [{name: cpu(work) for name, work in works.items()} for _ in range(rounds)]
    seconds = {name: statistics.median(turn[name] for turn in turns) for name in works}
    ratios = {
        name: statistics.median(turn["dalm"] / turn[name] for turn in turns) for name in works
    }
    return seconds, ratios


def check(hits: Any, peer: Any, k: int) -> None:
    """Fail unless both found the same passages, up to ties and rounding."""
    for ours, passages, scores in zip(hits, peer.documents, peer.scores, strict=True):
        theirs = [float(score) for score in scores if score > 0]
        assert len(ours) == len(theirs)
        assert all(
            abs(a.score - b) < 1e-4 * max(1, b) for a, b in zip(ours, theirs, strict=True)
        ), "they found different scores"
        clear = {hit.passage.id for hit in ours if hit.score > 1.0001 * ours[-1].score}
        assert clear <= {each.id for each in passages}, "they found different passages"


def cells(seconds: dict[str, float], ratios: dict[str, float]) -> list[str]:
    fastest = min(PEERS, key=lambda name: seconds[name])
    times = [f"{seconds[name]:.3f}" for name in ("dalm", *PEERS)]
    return [*times, f"{ratios[fastest]:.2f}"]


def main() -> None:
    dalm.retrieval.bm25.terms = str.split  # the terms are found before, for both
    asked = [terms(question) for question in questions()]
    plain = [" ".join(each) for each in asked]
    built, searched = [], []
    for size in SIZES:
        tokens = [terms(text) for text in collection(size)]
        passages = [Passage(str(i), " ".join(each)) for i, each in enumerate(tokens)]
        works: dict[str, Callable[[], Any]] = {"dalm": lambda p=passages: BM25(p)}
        for name, backend in PEERS.items():
            works[name] = lambda b=backend, t=tokens: index(b, t)
        built.append(row(f"{size:,}", *cells(*in_turns(works, BUILDS))))
        ours, theirs = BM25(passages), {n: index(b, tokens) for n, b in PEERS.items()}
        for k in KS:
            for peer in theirs.values():
                check(ours.search(plain, k), found_by(peer, asked, k, passages), k)
            works = {"dalm": lambda k=k, i=ours: i.search(plain, k)}
            for name, peer in theirs.items():
                works[name] = lambda k=k, p=peer, c=passages: found_by(p, asked, k, c)
            searched.append(row(f"{size:,}", k, *cells(*in_turns(works, ROUNDS))))
            print(searched[-1])
        print(built[-1])
    peers = [f"{name}, s" for name in PEERS]
    heading = ("dalm, s", *peers, "ratio to the faster one")
    table("bm25_index", "Indexing words", ("passages", *heading), built, trial=QUICK)
    title = f"Searching words, {QUESTIONS:,} questions"
    table("bm25_search", title, ("passages", "k", *heading), searched, trial=QUICK)


if __name__ == "__main__":
    main()
