"""Measure BM25, and its RRF with the untuned all-MiniLM-L6-v2, for the tables on COVID-QA.

Nothing is trained: a line each in results/covidqa_baselines.jsonl. As in `cell.py`, a question that
has two rows counts twice, and passages are cut at 128 tokens.
"""

import json

from common import RESULTS, minilm, results
from covidqa import BASE, TEST
from fusion import reciprocal_ranks

RESULT = "covidqa_baselines"
MEASURES = ["R@1", "R@5", "R@20", "RR@10"]
DEEP = 100
"""Hits of each ranking that are fused."""


def main() -> None:
    from dalm.config import Columns
    from dalm.eval.metrics import means
    from dalm.eval.retrieval_metrics import measure_retrieval
    from dalm.io.examples import read_examples, read_passages
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.records import Hit
    from dalm.retrieval.base import DenseSearcher
    from dalm.retrieval.bm25 import BM25
    from dalm.retrieval.exact import build_index

    if results(RESULT):
        return
    examples = read_examples(TEST, Columns(), needs={"passage"})
    gold = [example.passage for example in examples if example.passage]
    base = list(
        {passage.id: passage for passage in [*gold, *read_passages(BASE, Columns())]}.values()
    )
    queries = [example.query for example in examples]
    retriever = load_retriever(minilm(), place("cpu", "fp32"), lengths={"passage": 128})
    dense = DenseSearcher(retriever, build_index(retriever, base)).search(queries, DEEP)
    text = BM25(base).search(queries, DEEP)
    fused = [
        [Hit(hit.passage, -place) for place, hit in enumerate(reciprocal_ranks(pair))]
        for pair in zip(dense, text, strict=True)
    ]
    with (RESULTS / f"{RESULT}.jsonl").open("a", encoding="utf-8") as out:
        for name, found in {"BM25, untuned": text, "RRF with BM25, untuned": fused}.items():
            figures = means(measure_retrieval(found, [{each.id} for each in gold], MEASURES))
            out.write(
                json.dumps({"name": name, "seed": 1, **{m: figures[m] for m in MEASURES}}) + "\n"
            )


if __name__ == "__main__":
    main()
