"""Measure the search for near duplicates beside rensa: CPU seconds, memory, and what is found.

    python benchmarks/near_duplicates.py [--quick]

128 hash functions and a threshold of 0.8 in both, which take turns in one process.
"""

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np
from common import child, resident, row, table
from recombined import collection
from rensa import RMinHashDeduplicator
from scipy.sparse import csr_array

from dalm.ingest.near_duplicates import (
    FUNCTIONS,
    Hashes,
    NearDuplicateFilter,
    minima,
    shingles,
    signatures,
)

QUICK = "--quick" in sys.argv
SIZES, ROUNDS = ((2_000,), 1) if QUICK else ((14_000, 25_000, 100_000), 3)
ALIKE = (1_000, 2_000) if QUICK else (4_000, 16_000, 64_000)
EXACT_UP_TO = 25_000  # passages: there are many pairs
THRESHOLD, BATCH = 0.8, 256


def batches(items: Any) -> list[Any]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def dalm_texts(texts: list[str]) -> list[bool]:
    """Return which texts are kept, as `dalm passages` finds it, names and numbers compared."""
    near = NearDuplicateFilter(THRESHOLD)
    return [kept for part in batches(texts) for kept in near.add(signatures(part)).tolist()]


def dalm_words(texts: list[str]) -> list[bool]:
    """The same by the words alone, as rensa compares texts."""
    near = NearDuplicateFilter(THRESHOLD)
    return [k for part in batches(texts) for k in near.add(minima(shingles(part))).tolist()]


def dalm_hashes(triples: list[Hashes]) -> list[bool]:
    near = NearDuplicateFilter(THRESHOLD)
    return [kept for part in batches(triples) for kept in near.add(minima(part)).tolist()]


def rensa_texts(texts: list[str]) -> list[bool]:
    return rensa_tokens(list(map(word_triples, texts)))


def word_triples(text: str) -> list[str]:
    words = text.lower().split()
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False))) or [" ".join(words)]


def rensa_tokens(tokens: list[Any]) -> list[bool]:
    near = RMinHashDeduplicator(THRESHOLD, FUNCTIONS, use_lsh=True)
    found: list[bool] = near.add_pairs((str(i), each) for i, each in enumerate(tokens))
    return found


def as_tokens(triples: list[Hashes]) -> list[list[bytes]]:
    parts = [each.tobytes() for each in triples]
    return [[part[i : i + 4] for i in range(0, len(part), 4)] for part in parts]


def exact_pairs(triples: list[Hashes]) -> dict[int, list[int]]:
    """Return for each text the earlier ones of at least the threshold's Jaccard similarity."""
    sets = [np.unique(each) for each in triples]
    sizes = np.array([len(each) for each in sets])
    _, columns = np.unique(np.concatenate(sets), return_inverse=True)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(len(columns), np.int32), columns, ends))
    by_column = matrix.T.tocsr()
    found: dict[int, list[int]] = {}
    for start in range(0, len(sets), BATCH):
        shared = (matrix[start : start + BATCH] @ by_column).tocoo()
        one, other = shared.coords[0] + start, shared.coords[1]
        union = sizes[one] + sizes[other] - shared.data
        near = (other < one) & (shared.data >= THRESHOLD * union)
        for a, b in zip(one[near].tolist(), other[near].tolist(), strict=True):
            found.setdefault(a, []).append(b)
    return found


def agreement(kept: list[bool], near: dict[int, list[int]]) -> tuple[int, int, int]:
    """Return how many were left out; of these, how many resemble none that is kept; the missed.

    Missed are those that are kept though they resemble an earlier kept one.
    """
    resembles = [any(kept[other] for other in near.get(i, ())) for i in range(len(kept))]
    wrong = sum(not like for one, like in zip(kept, resembles, strict=True) if not one)
    missed = sum(like for one, like in zip(kept, resembles, strict=True) if one)
    return kept.count(False), wrong, missed


def cpu(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turns(*works: Callable[[], Any]) -> list[str]:
    """Return the median CPU seconds of each of two, and the median of their ratio."""
    gc.collect()
    gc.freeze()  # the garbage collector would look through what this script holds
    turns = [[cpu(work) for work in works] for _ in range(ROUNDS)]
    medians = [statistics.median(turn[i] for turn in turns) for i in (0, 1)]
    ratio = statistics.median(one / other for one, other in turns)
    return [f"{seconds:.2f}" for seconds in medians] + [f"{ratio:.2f}"]


def memory(who: str, count: int) -> float:
    """Return the MB that a filter takes for so many passages that are all unlike."""
    rng = np.random.default_rng(0)
    near: Any = NearDuplicateFilter(THRESHOLD)
    if who == "rensa":
        near = RMinHashDeduplicator(THRESHOLD, FUNCTIONS, use_lsh=True)
    before = resident("VmRSS")
    for start in range(0, count, BATCH):
        triples = list(rng.integers(0, 2**32, (min(BATCH, count - start), 50), dtype=np.uint32))
        if who == "rensa":
            near.add_pairs((str(start + i), each) for i, each in enumerate(as_tokens(triples)))
        else:
            near.add(minima(triples))
    return resident("VmRSS") - before


def boilerplate(count: int) -> list[Hashes]:
    """Return the triples of passages that share 83 of 100: similar, but no near duplicates."""
    rng = np.random.default_rng(0)
    common = rng.integers(0, 2**32, 83, dtype=np.uint32)
    own = rng.integers(0, 2**32, (count, 17), dtype=np.uint32)
    return [np.concatenate([common, each]) for each in own]


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        print(json.dumps(memory(sys.argv[2], int(sys.argv[3]))))
        return
    seconds, found = [], []
    for size in SIZES:
        texts = collection(size)
        triples = shingles(texts)
        tokens = as_tokens(triples)
        from_texts = in_turns(lambda t=texts: dalm_texts(t), lambda t=texts: rensa_texts(t))
        from_words = in_turns(lambda t=texts: dalm_words(t), lambda t=texts: rensa_texts(t))
        from_hashes = in_turns(lambda t=triples: dalm_hashes(t), lambda t=tokens: rensa_tokens(t))
        used = [child(Path(__file__), "memory", who, str(size)) for who in ("dalm", "rensa")]
        megabytes = [f"{mb:.0f}" for mb in used]
        print(from_texts, from_words, from_hashes, used, flush=True)
        alone = (from_words[0], from_words[2])
        seconds.append(row(f"{size:,}", *from_texts, *alone, *from_hashes, *megabytes))
        if size > EXACT_UP_TO:
            continue
        near = exact_pairs(triples)
        ways = {
            "dalm": dalm_hashes(triples),
            "rensa": rensa_tokens(tokens),
            "dalm, names and numbers compared": dalm_texts(texts),
        }
        for name, kept in ways.items():
            found.append(row(f"{size:,}", name, *agreement(kept, near)))
    alike = []
    for size in ALIKE:
        triples = boilerplate(size)
        tokens = as_tokens(triples)
        taken = in_turns(lambda t=triples: dalm_hashes(t), lambda t=tokens: rensa_tokens(t))
        alike.append(row(f"{size:,}", *taken))
    title = "Passages with 83 of 100 triples in common"
    heading: tuple[str, ...] = ("passages", "dalm, s", "rensa, s", "ratio")
    table("near_duplicates_boilerplate", title, heading, alike, trial=QUICK)
    heading = ("passages", "texts: dalm, s", "texts: rensa, s", "texts: ratio")
    heading += ("texts, words alone: dalm, s", "texts, words alone: ratio")
    heading += ("triples: dalm, s", "triples: rensa, s", "triples: ratio", "dalm, MB", "rensa, MB")
    table("near_duplicates_seconds", "Near duplicates", heading, seconds, trial=QUICK)
    heading = ("passages", "filter", "left out", "of these below 0.8", "missed")
    table("near_duplicates_found", "What is left out", heading, found, trial=QUICK)


if __name__ == "__main__":
    main()
