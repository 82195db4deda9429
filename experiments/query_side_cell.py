"""Run one cell of the comparison on a fixed index: train a retriever, rank test passages.

    python query_side_cell.py '{"domain": ..., "retriever": ..., "table": ..., "options": {}}'

It prints JSON: the cost of training, the seconds of encoding all passages again, and the ranks of
the test questions' gold passages, as `teacher_cell.py` does, for each index that is searched and
each map of the queries.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
HELD_OUT = 10
"""Every tenth pair chooses the ridge."""


def main() -> None:
    from cell import train

    cell = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        trained = train(cell, folder)
        made = Path(folder) / "retriever"
        name = str(made) if made.exists() else cell["retriever"]
        print(json.dumps({**trained, **measure(cell, name)}))


def measure(cell: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the ranks by each way to search with a retriever, and what encoding takes."""
    from common import WORK
    from domains import domain
    from teacher_cell import DEEP, _ranks

    from dalm.config import Columns
    from dalm.io.examples import read_examples, read_passages
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.records import gold_passages, question_id
    from dalm.retrieval.bm25 import BM25
    from dalm.retrieval.embedding_cache import encode_passages_cached
    from dalm.retrieval.exact import ExactIndex
    from dalm.retrieval.hybrid import weighted_sum

    tables = domain(cell["domain"])
    base = read_passages(tables.passages, Columns())
    texts = [passage.text for passage in base]
    examples = read_examples(tables.test, Columns(), needs={"passage"})
    golds = gold_passages(examples)
    asked = {question_id(each.query): each.query for each in examples}
    right = [{passage.id for passage in golds[each]} for each in asked]
    lengths = {"query": cell["lengths"][0], "passage": cell["lengths"][1]}
    old, new = (
        load_retriever(each, place("auto", "bf16"), lengths=lengths)
        for each in (cell["retriever"], name)
    )
    found: dict[str, Any] = {}
    vectors = encode_passages_cached(old, texts, WORK / "query-side-vectors")
    queries = new.encode_queries(list(asked.values()))
    ways = {"old index": (queries, vectors)}
    options = cell.get("options")
    if options is not None and "train_encoders" not in options:
        start, cpu = time.perf_counter(), time.process_time()
        ways["new index"] = (queries, new.encode_passages(texts))
        found["encoding_seconds"] = time.perf_counter() - start
        found["encoding_cpu_seconds"] = time.process_time() - cpu
        cpu = time.process_time()
        for kind, mapped in maps(cell["table"], old, new):
            ways[f"old index, {kind}"] = (mapped(queries), vectors)
        found["mapping_cpu_seconds"] = time.process_time() - cpu
    text = BM25(base).search(list(asked.values()), DEEP)
    ranks: dict[str, dict[str, list[int]]] = {}
    for way, (questions, passages) in ways.items():
        dense = ExactIndex(base, passages).search(questions, DEEP)
        fused = [weighted_sum([(0.5, a), (0.5, b)]) for a, b in zip(dense, text, strict=True)]
        ranks[way] = {"alone": _ranks(dense, right), "fused": _ranks(fused, right)}
    if options is None:
        ranks["BM25"] = {"alone": _ranks(text, right)}
    return found | {"ranks": ranks}


def maps(table: str, old: Any, new: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Yield maps from the new model's vectors to the old one's, from pairs of the training texts.

    Orthogonal: W = UVᵀ of the singular values of newᵀ·old (Schönemann 1966). Ridge:
    W = (newᵀ·new + λ)⁻¹·newᵀ·old, with the λ of the best mean cosine on every tenth pair.
    """
    import torch
    from torch.nn.functional import normalize

    from dalm.config import Columns
    from dalm.io.examples import read_examples

    examples = read_examples(table, Columns(), needs={"passage"})
    questions = list(dict.fromkeys(each.query for each in examples))
    passages = list({each.passage.id: each.passage.text for each in examples}.values())
    a, b = (
        torch.cat([model.encode_queries(questions), model.encode_passages(passages)]).double()
        for model in (new, old)
    )
    u, _, v = torch.linalg.svd(a.T @ b)

    def ridge(x: Any, y: Any, weight: float) -> Any:
        eye = torch.eye(x.shape[1], dtype=x.dtype)
        return torch.linalg.solve(x.T @ x + weight * eye, x.T @ y)

    held = torch.arange(len(a)) % HELD_OUT == 0

    def cosine(weight: float) -> float:
        predicted = a[held] @ ridge(a[~held], b[~held], weight)
        return float(torch.cosine_similarity(predicted, b[held]).mean())

    chosen = max(RIDGES, key=cosine)
    for kind, w in (("orthogonal map", u @ v), ("ridge", ridge(a, b, chosen))):
        yield kind, lambda x, w=w: normalize((x.double() @ w).float())


if __name__ == "__main__":
    main()
