"""Measure exact search over many vectors: time and memory, against faiss's flat index."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import child, row, table

QUICK = "--quick" in sys.argv
PASSAGES, DIM, ROUNDS = (100_000 if QUICK else 1_000_000), 384, (1 if QUICK else 3)
SHAPES = ((1_000, 10), (1_000, 100)) if QUICK else ((10_000, 10), (1_000, 10), (1_000, 100))
"""Queries and k."""


def measure(who: str, queries: int, k: int) -> dict[str, float]:
    import numpy as np

    asked = np.random.default_rng(1).standard_normal((queries, DIM), dtype=np.float32)
    if who == "faiss":
        import faiss

        index = faiss.IndexFlatIP(DIM)
        for _, vectors in blocks():
            index.add(vectors)
        return timed(lambda: index.search(asked, k)[1])
    import torch

    from dalm.retrieval.topk import top_k

    passages, those = torch.empty(PASSAGES, DIM), torch.from_numpy(asked)
    for start, vectors in blocks():
        passages[start : start + len(vectors)] = torch.from_numpy(vectors)
    if who == "product":  # lower bound: only the products, in fp32
        return timed(lambda: products(passages, those))
    return timed(lambda: top_k(those, passages, k)[1].numpy())  # noqa: PLW0108


def blocks() -> Iterator[tuple[int, Any]]:
    """Yield unit vectors in blocks, so that making them isn't the peak of memory."""
    import numpy as np

    random = np.random.default_rng(0)
    for start in range(0, PASSAGES, 50_000):
        vectors = random.standard_normal((50_000, DIM), dtype=np.float32)
        yield start, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def products(passages: Any, queries: Any) -> Any:
    import torch

    out = torch.empty(512, 8192)
    for start in range(0, len(passages) - 8191, 8192):
        for part in queries.split(512):
            torch.mm(part, passages[start : start + 8192].T, out=out[: len(part)])
    return out[:1].long().numpy()


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(search: Callable[[], Any]) -> dict[str, float]:
    before = peak_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    rows = search()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "mb": peak_mb() - before,
        "check": int(rows[:, 0].sum()),
    }


def main() -> None:
    arguments = [x for x in sys.argv[1:] if x != "--quick"]
    if arguments:
        print(json.dumps(measure(arguments[0], *map(int, arguments[1:]))))
        return
    rows = []
    quick = ["--quick"] * QUICK
    for queries, k in SHAPES:
        who = ("dalm", "faiss", "product")
        asked = [str(queries), str(k), *quick]
        seen = [[child(Path(__file__), name, *asked) for name in who] for _ in range(ROUNDS)]
        assert all(a["check"] == b["check"] for a, b, _ in seen), "they found different passages"
        middle = [statistics.median(turn[i]["seconds"] for turn in seen) for i in range(3)]
        ratios = [
            statistics.median(turn[0][unit] / turn[1][unit] for turn in seen)
            for unit in ("seconds", "cpu")
        ]
        shape = f"{PASSAGES:,} x {DIM}, {queries:,} queries, k = {k}"
        cells = [f"{s:.1f}" for s in middle] + [f"{r:.2f}" for r in ratios]
        rows.append(row(shape, *cells, *(f"{turn['mb']:.0f}" for turn in seen[0][:2])))
    heading = ("search", "dalm, s", "faiss flat, s", "fp32 products alone, s", "ratio by the clock")
    heading += ("ratio of CPU time", "dalm, MB above the vectors", "faiss, MB")
    table("exact_search", "Exact search", heading, rows, trial=QUICK)


if __name__ == "__main__":
    main()
