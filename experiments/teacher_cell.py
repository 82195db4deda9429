"""Run one cell of the comparison of teachers: train a retriever on labels, rank test passages.

    python teacher_cell.py '{"domain": ..., "retriever": ..., "table": ..., "options": {}}'

A cell runs in its own process, so that peak memory is the cell's. It prints JSON: the cost, and the
rank of each test question's first gold passage (0: not among the first 100), by the retriever's
vectors alone and fused with BM25, and behind a reranker if that is what was trained, so that
measures, intervals and strata are computed afterwards.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

DEEP = 100
"""Hits of a ranking, as many as are fused."""
RERANKED = 50
"""Of these a reranker orders the first."""


def main() -> None:
    from cell import train

    cell = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        trained = train(cell, folder)
        if cell.get("keep"):
            Path(cell["keep"]).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "retriever").rename(cell["keep"])
            tuned = cell["keep"]
        else:
            tuned = f"{folder}/retriever"
        retriever = tuned if Path(tuned).exists() else cell["retriever"]
        made = Path(folder) / "reranker"
        reranker = str(made) if made.exists() else None
        print(json.dumps({**trained, "ranks": ranks(cell, retriever, reranker)}))


def ranks(
    cell: dict[str, Any], retriever_name: str, reranker_name: str | None
) -> dict[str, list[int]]:
    """Return the rank of each test question's first gold passage, by way of searching."""
    from domains import domain
    from fusion import reciprocal_ranks

    from dalm.config import Columns
    from dalm.io.examples import read_examples, read_passages
    from dalm.models.loading import place
    from dalm.models.reranker import load_reranker
    from dalm.models.retriever import load_retriever
    from dalm.records import gold_passages, question_id
    from dalm.retrieval.base import DenseSearcher
    from dalm.retrieval.bm25 import BM25
    from dalm.retrieval.exact import build_index
    from dalm.retrieval.hybrid import weighted_sum
    from dalm.retrieval.reranking import ordered

    tables = domain(cell["domain"])
    base = read_passages(tables.passages, Columns())
    examples = read_examples(tables.test, Columns(), needs={"passage"})
    golds = gold_passages(examples)
    asked = {question_id(each.query): each.query for each in examples}
    right = [{passage.id for passage in golds[each]} for each in asked]
    queries = list(asked.values())
    lengths = {"passage": cell["lengths"][1], "query": cell["lengths"][0]}
    placement = place("auto", "bf16")
    retriever = load_retriever(retriever_name, placement, lengths=lengths)
    dense = DenseSearcher(retriever, build_index(retriever, base)).search(queries, DEEP)
    text = BM25(base).search(queries, DEEP)
    pairs = list(zip(dense, text, strict=True))
    fused = [weighted_sum([(0.5, a), (0.5, b)]) for a, b in pairs]
    found = {"alone": _ranks(dense, right), "fused": _ranks(fused, right)}
    if reranker_name is not None:
        reranker = load_reranker(reranker_name, placement)
        best = [[each.hit for each in ranking[:RERANKED]] for ranking in fused]
        reranked = [
            ordered(hits, reranker.score(query, [hit.passage.text for hit in hits]))
            for query, hits in zip(queries, best, strict=True)
        ]
        found["reranked"] = _ranks(reranked, right)
    if cell.get("options") is None:
        found["BM25"] = _ranks(text, right)
        found["RRF"] = _ranks([reciprocal_ranks(pair) for pair in pairs], right)
    return found


def _ranks(found: Sequence[Sequence[Any]], right: Sequence[set[str]]) -> list[int]:
    return [
        next((n for n, hit in enumerate(hits[:DEEP], start=1) if hit.id in gold), 0)
        for hits, gold in zip(found, right, strict=True)
    ]


if __name__ == "__main__":
    main()
