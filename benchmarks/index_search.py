"""Measure an index: passages/s and peak memory of building it, and search beside LanceDB's client.

    python benchmarks/index_search.py [--passages 10000 100000] [--dimensions 384]

Passages of ten words with random unit vectors, which need no model, go through the path of `dalm
index` (a table is collected, new passages are found, stored in blocks, and indexed by their words),
each size in a process of its own. Then an `IndexSearcher` and LanceDB's own client answer the same
queries on the same table in turns: k = 10, in hybrid search 100 of each ranking. `--exact-up-to`
gives smaller tables an approximate index, as larger ones have. `--queries 0` leaves search out.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import child, resident, row, table

K, POOL = 10, 100


class Encoder:
    """Give each text a random unit vector that depends on the text alone."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def __call__(self, texts: Any) -> Any:
        import numpy as np
        import torch
        from torch.nn.functional import normalize

        seeds = (int(text.split()[1]) for text in texts)
        rows = (
            np.random.default_rng(seed).standard_normal(self.dim, dtype=np.float32)
            for seed in seeds
        )
        return normalize(torch.from_numpy(np.stack(list(rows))))

    encode_queries = encode_passages = __call__


def texts_of(count: int) -> Any:
    """Yield passages; their words are as frequent as in natural texts (Zipf)."""
    import numpy as np

    random = np.random.default_rng(0)
    for number in range(count):
        words = " ".join(f"w{word % 50_000}" for word in random.zipf(1.3, 8))
        yield f"passage {number} {words}"


def measure(given: argparse.Namespace) -> dict[str, Any]:
    from dalm.config import Index
    from dalm.retrieval.hybrid import IndexSearcher
    from dalm.retrieval.indexing import update
    from dalm.retrieval.passage_sources import collected
    from dalm.retrieval.stores import lance

    lance.EXACT_UP_TO = given.exact_up_to
    (count,), encoder = given.passages, Encoder(given.dimensions)
    with tempfile.TemporaryDirectory() as folder:
        source, index = Path(folder, "passages.jsonl"), Path(folder, "index")
        with source.open("w") as out:
            out.writelines(json.dumps({"Passage": text}) + "\n" for text in texts_of(count))
        index.mkdir()
        found: dict[str, Any] = {"before": resident()}
        begun = time.perf_counter()
        with collected([str(source)], Index(index_dir=str(index)), index) as passages:
            store = lance.LanceStore(index / "store", given.dimensions, passages.columns)
            update(store, passages, lambda blocks: (encoder(block) for block in blocks), prune=True)
        found |= {"store_s": time.perf_counter() - begun, "stored": resident()}
        begun = time.perf_counter()
        found["recall"] = store.optimise(in_use=False)
        found |= {"optimise_s": time.perf_counter() - begun, "peak": resident()}
        asked = list(texts_of(given.queries + 5))
        for mode in ("dense", "text", "hybrid") if given.queries else ():
            searcher = IndexSearcher(encoder, store, mode)
            found[mode] = in_turns(
                lambda q, s=searcher: s.search([q], K), client(store, encoder, mode), asked
            )
        return found


def client(store: Any, encode: Encoder, mode: str) -> Callable[[str], Any]:
    """Return the same search by LanceDB's own client, to Python's lists."""
    from lancedb.query import MatchQuery
    from lancedb.rerankers import RRFReranker

    from dalm.analyser import terms

    columns = ["id", "text", "title", "record"]

    def as_stored(search: Any) -> Any:
        if not store.tuning:
            return search.bypass_vector_index()
        probes = store.tuning["probes"]
        return search.nprobes(probes).refine_factor(max(10, probes // 8))

    def dense(query: str) -> Any:
        search = as_stored(store.table.search(encode([query])[0].numpy()).distance_type("dot"))
        return search.select([*columns, "_distance"]).limit(K).to_list()

    def text(query: str) -> Any:
        match = MatchQuery(" ".join(terms(query)), "words")
        search = store.table.search(match, query_type="fts")
        return search.select([*columns, "_score"]).limit(K).to_list()

    def hybrid(query: str) -> Any:
        search = store.table.search(query_type="hybrid", vector_column_name="vector")
        search = search.vector(encode([query])[0].numpy()).distance_type("dot")
        search = search.text(MatchQuery(" ".join(terms(query)), "words"))
        search = as_stored(search.rerank(RRFReranker()))
        return search.select(columns).limit(POOL).to_arrow()[:K].to_pylist()

    return {"dense": dense, "text": text, "hybrid": hybrid}[mode]


def in_turns(ours: Callable, theirs: Callable, queries: list[str]) -> list[tuple[float, float]]:
    """Return the median milliseconds of both, query by query in turns; five to warm up.

    First those that have passed, then those of the processor, which other programs disturb less.
    """
    times: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for number, query in enumerate(queries):
        order = ((0, ours), (1, theirs)) if number % 2 else ((1, theirs), (0, ours))
        for which, search in order:
            wall, cpu = time.perf_counter(), time.process_time()
            search(query)
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            times[which].append(spent)
    medians = [
        [1000 * statistics.median(each) for each in zip(*spent[5:], strict=True)] for spent in times
    ]
    return list(zip(*medians, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--exact-up-to", type=float, default=2e8, help="passages x dimensions")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given)))
        return
    built, searched = [], []
    for count in given.passages:
        options = ["--passages", str(count), "--queries", str(given.queries)]
        options += ["--exact-up-to", str(given.exact_up_to)]
        options += ["--dimensions", str(given.dimensions)]
        seen = child(Path(__file__), "--child", *options)
        speed = count / seen["store_s"]
        memory = (f"{seen[name]:.0f}" for name in ("before", "stored", "peak"))
        built.append(row(f"{count:,}", f"{speed:,.0f}", f"{seen['optimise_s']:.1f}", *memory))
        for mode in ("dense", "text", "hybrid") if given.queries else ():
            pairs = seen[mode]
            kind = "exact" if seen["recall"] is None else f"recall@10 {seen['recall']:.3f}"
            cells = [f"{a:.1f} | {b:.1f} | {a / b:.2f}" for a, b in pairs]
            searched.append(row(f"{count:,}", f"{mode}, {kind}", *cells))
    trial = min(given.passages) < parser.get_default("passages")[0] or 0 < given.queries < 60
    heading = ("passages", "stored/s", "indices, s", "MB before", "MB after storing", "peak MB")
    kind = f"{given.dimensions} dimensions"
    table("index_building", f"Building an index, {kind}", heading, built, trial=trial)
    if not searched:
        return
    heading = ("passages", "search", "dalm, ms", "LanceDB's client, ms", "ratio")
    heading += ("dalm, CPU ms", "LanceDB's client, CPU ms", "ratio")
    table("index_searching", f"Searching an index, {kind}", heading, searched, trial=trial)


if __name__ == "__main__":
    main()
