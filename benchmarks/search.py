"""Exact search over many vectors: seconds and memory beside faiss's flat index, in the same run."""

import json
import statistics
import sys
import time
from pathlib import Path

from common import child, row, table

PASSAGES, QUERIES, DIM, K, ROUNDS = 1_000_000, 1_000, 384, 10, 3


def measure(who: str) -> dict[str, float]:
    import numpy as np

    random = np.random.default_rng(0)
    vectors = random.standard_normal((PASSAGES, DIM), dtype=np.float32)
    queries = random.standard_normal((QUERIES, DIM), dtype=np.float32)
    if who == "faiss":
        import faiss

        index = faiss.IndexFlatIP(DIM)
        index.add(vectors)
        start = time.perf_counter()
        _, rows = index.search(queries, K)
    else:
        import torch

        from dalm.retrieval.topk import top_k

        passages, asked = torch.from_numpy(vectors), torch.from_numpy(queries)
        start = time.perf_counter()
        rows = top_k(asked, passages, K)[1].numpy()
    return {"seconds": time.perf_counter() - start, "check": int(rows[:, 0].sum())}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    seen = [(child(Path(__file__), "dalm"), child(Path(__file__), "faiss")) for _ in range(ROUNDS)]
    assert all(a["check"] == b["check"] for a, b in seen), "the two found different passages"
    ours, theirs = (statistics.median(pair[i]["seconds"] for pair in seen) for i in (0, 1))
    ratio = statistics.median(pair[0]["seconds"] / pair[1]["seconds"] for pair in seen)
    shape = f"{PASSAGES:,} x {DIM}, {QUERIES:,} queries, k = {K}"
    heading = ("search", "dalm, s", "faiss flat, s", "ratio")
    rows = [row(shape, f"{ours:.1f}", f"{theirs:.1f}", f"{ratio:.2f}")]
    table("Exact search", heading, rows)


if __name__ == "__main__":
    main()
