"""Measure exact search over many vectors: time and memory, against faiss's flat index.

    python benchmarks/search.py [--quick]

`dalm.retrieval.topk`, faiss's flat index and the fp32 matrix products alone, which no exact search
in fp32 can do without, on the same random unit vectors: a process each, in turns, with the
processor's own instructions and, by variables of the environment, with AVX2 at most.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import child, resident, row, table
from machine import instruction_set

QUICK = "--quick" in sys.argv
DIM, QUERIES = 384, 1_000
SHAPES = ((100_000, 10),) if QUICK else ((100_000, 10), (1_000_000, 10))
"""Passages and k."""
TURNS = {100_000: 1 if QUICK else 2, 1_000_000: 1}
REPEATED = 2
"""Searches of a process, of which the median counts."""
AVX2 = {
    **{"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "MKL_CBWR": "AVX2"},
    **{"ONEDNN_MAX_CPU_ISA": "AVX2", "FAISS_OPT_LEVEL": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
}
WHO = ("dalm", "faiss", "products")


def measure(who: str, passages: int, k: int) -> dict[str, Any]:
    import numpy as np

    asked = np.random.default_rng(1).standard_normal((QUERIES, DIM), dtype=np.float32)
    if who == "faiss":
        import faiss

        index = faiss.IndexFlatIP(DIM)
        for _, vectors in blocks(passages):
            index.add(vectors)
        return timed(lambda: index.search(asked, k)[1])
    import torch

    from dalm.retrieval.topk import top_k

    held, those = torch.empty(passages, DIM), torch.from_numpy(asked)
    for start, vectors in blocks(passages):
        held[start : start + len(vectors)] = torch.from_numpy(vectors)
    if who == "products":
        return timed(lambda: products(held, those)) | {"instructions": instruction_set()}
    return timed(lambda: top_k(those, held, k)[1].numpy())  # noqa: PLW0108


def blocks(passages: int) -> Iterator[tuple[int, Any]]:
    """Yield unit vectors in blocks, so that making them isn't the peak of memory."""
    import numpy as np

    random = np.random.default_rng(0)
    for start in range(0, passages, 50_000):
        vectors = random.standard_normal((50_000, DIM), dtype=np.float32)
        yield start, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def products(passages: Any, queries: Any) -> Any:
    import torch

    out = torch.empty(512 * 8192)
    for block in passages.split(8192):
        for part in queries.split(512):
            shape = len(part), len(block)
            torch.mm(part, block.T, out=out[: shape[0] * shape[1]].view(shape))
    return out[:1].long()[None].numpy()


def timed(search: Callable[[], Any]) -> dict[str, Any]:
    before, seconds, cpu = resident(), [], []
    for _ in range(REPEATED):
        wall, used = time.perf_counter(), time.process_time()
        rows = search()
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
    return {
        "seconds": statistics.median(seconds),
        "cpu": statistics.median(cpu),
        "mb": resident() - before,
        "check": int(rows.sum()),
    }


def compared(passages: int, k: int, limits: dict[str, str]) -> tuple[str, ...]:
    """Return a row of the table."""
    words = [str(passages), str(k)]
    script = Path(__file__)
    seen = [
        {who: child(script, who, *words, environment=limits) for who in WHO}
        for _ in range(TURNS[passages])
    ]
    assert all(a["dalm"]["check"] == a["faiss"]["check"] for a in seen), "other passages were found"

    def ratio(other: str, unit: str) -> str:
        return f"{statistics.median(a['dalm'][unit] / a[other][unit] for a in seen):.2f}"

    seconds = (f"{statistics.median(a[who]['cpu'] for a in seen):.2f}" for who in WHO)
    return row(
        f"{passages:,} x {DIM}, k = {k}",
        seen[0]["products"]["instructions"],
        *seconds,
        *(ratio("products", "cpu"), ratio("faiss", "cpu"), ratio("faiss", "seconds")),
        *(f"{seen[0][who]['mb']:.0f}" for who in WHO[:2]),
    )


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--quick"]
    if words:
        print(json.dumps(measure(words[0], *map(int, words[1:]))))
        return
    rows = [compared(*shape, limits) for shape in SHAPES for limits in ({}, AVX2)]
    heading = ("search", "instructions", "dalm, CPU s", "faiss flat, CPU s", "fp32 products, CPU s")
    heading += ("dalm : products", "dalm : faiss", "the same by the clock")
    heading += ("dalm, MB above the vectors", "faiss, MB")
    table("exact_search", f"Exact search, {QUERIES:,} queries", heading, rows, trial=QUICK)


if __name__ == "__main__":
    main()
