"""Measure search: vectors, words and both fused, untuned and tuned, and the threshold.

COVID-QA (2,341 passages) and MedQuAD (11,074), through `dalm index --calibrate` on the training
questions and the index's own searcher on the test questions. The threshold is measured on
questions that were not calibrated on: the test questions, the same ones without the passages of
their documents, and the other data set's, which are of another domain.

    python experiments/fusion.py covidqa-untuned covidqa-tuned medquad-untuned medquad-tuned
"""

import json
import random
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from common import DATA, RESULTS, WORK, columns, minilm

SOURCES = {
    "covidqa": ["covidqa_passages.csv"],
    "medquad": ["medquad_train.csv", "medquad_test.csv"],
}
OTHER = {"covidqa": "medquad", "medquad": "covidqa"}
STEPS = {"covidqa": {"num_train_epochs": 2.0}, "medquad": {"max_train_steps": 200}}
FOREIGN = 300
"""Questions of the other domain, the first ones of its test table."""
MOST = {"train": 700, "test": 400}
"""Rows of MedQuAD's tables, drawn with a fixed seed."""
WIDE = 50
"""Hits among which a document's are left out."""


def main() -> None:
    for name in sys.argv[1:]:
        data, _, state = name.partition("-")
        row = {"name": name, **measure(data, tuned=state == "tuned")}
        with (RESULTS / "fusion.jsonl").open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(json.dumps(row, indent=1))


def retriever(data: str, *, tuned: bool) -> str:
    """Return all-MiniLM-L6-v2, or what training makes of it in a short run."""
    from dalm import RetrieverOnly, train_retriever_only

    folder = WORK / f"fusion-{data}-retriever"
    if tuned and not folder.exists():
        options: dict[str, Any] = {"per_device_train_batch_size": 16, "learning_rate": 3e-5}
        options |= {"passage_max_len": 256, "seed": 1, "output_dir": str(folder), **STEPS[data]}
        pairs = str(DATA / f"{data}_train.csv")
        train_retriever_only(minilm(), pairs, RetrieverOnly(**options))
    return str(folder / "retriever") if tuned else minilm()


def measure(data: str, *, tuned: bool) -> dict[str, Any]:
    """Build and calibrate an index; return the figures of every way to search it."""
    from dalm import Index, index
    from dalm.config.shared import Machine
    from dalm.models.loading import placement_of
    from dalm.retrieval.hybrid import POOL, searcher_of
    from dalm.retrieval.index_folder import IndexFolder

    folder = WORK / f"fusion-{data}-{'tuned' if tuned else 'untuned'}"
    line: dict[str, Any] = {"index_dir": str(folder)}
    if not folder.exists():
        sources = [str(DATA / name) for name in SOURCES[data]]
        made = retriever(data, tuned=tuned)
        index(sources, settings=Index(**line, retriever_name_or_path=made, passage_max_len=256))
    index(settings=Index(**line, calibrate=table(data, "train")))
    generation = IndexFolder(str(folder)).current()
    searcher = searcher_of(generation, placement_of(Machine()), "hybrid", None)
    queries, gold, _ = questions(data)
    vectors = searcher.encoder.encode_queries(queries)
    dense = generation.store.search(vectors, POOL)
    text = generation.store.text_search(queries, POOL)
    pairs = list(zip(dense, text, strict=True))
    calibrated = generation.description.dense_weight
    found: dict[str, Any] = {
        "dense": quality(dense, gold),
        "text": quality(text, gold),
        "RRF": quality([reciprocal_ranks(pair) for pair in pairs], gold),
    }
    for weight in (0.3, 0.4, 0.5, 0.6, 0.7, calibrated):
        searcher.dense_weight = weight
        name = f"z, w = {weight}" if weight != calibrated else "calibrated"
        found[name] = quality([searcher.fuse(*pair) for pair in pairs], gold)
    return {"weight": calibrated, "search": found, **threshold(searcher, generation, data)}


def table(data: str, part: str) -> str:
    """Return a table of questions; of MedQuAD's a part."""
    file = DATA / f"{data}_{part}.csv"
    if data == "covidqa":
        return str(file)

    def drawn(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return random.Random(0).sample(rows, MOST[part])

    return columns(file, WORK / f"fusion-{data}-{part}.csv", ("Title", "Passage", "Query"), drawn)


def questions(data: str) -> tuple[list[str], list[set[str]], list[set[str]]]:
    """Return the test questions, the ids of their passages, and the titles of their documents."""
    from dalm.config import Columns
    from dalm.io.examples import read_examples
    from dalm.records import gold_passages, question_id

    examples = read_examples(table(data, "test"), Columns(), needs={"passage"})
    golds = gold_passages(examples)
    asked = {question_id(each.query): each.query for each in examples}
    right = [golds[each] for each in asked]
    ids = [{passage.id for passage in passages} for passages in right]
    return list(asked.values()), ids, [{passage.title for passage in each} for each in right]


def reciprocal_ranks(rankings: Sequence[Sequence[Any]], k: int = 60) -> list[Any]:
    """Fuse rankings by Σ 1 / (k + rank): Cormack, Clarke and Büttcher, 2009."""
    scores: dict[str, float] = {}
    hits = {hit.passage.id: hit for ranking in rankings for hit in ranking}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.passage.id] = scores.get(hit.passage.id, 0.0) + 1 / (k + rank)
    return [hits[each] for each in sorted(hits, key=lambda each: (-scores[each], each))]


def quality(found: Sequence[Sequence[Any]], gold: Sequence[set[str]]) -> list[float]:
    """Return recall@1, recall@10 and MRR@10, by the first relevant passage of a question."""
    ranks = [
        next((n for n, hit in enumerate(hits[:10], start=1) if hit.passage.id in right), 0)
        for hits, right in zip(found, gold, strict=True)
    ]
    reciprocal = [1 / rank if rank else 0.0 for rank in ranks]
    means = np.mean([[rank == 1 for rank in ranks], [rank > 0 for rank in ranks], reciprocal], 1)
    return [round(float(each), 4) for each in means]


def threshold(searcher: Any, generation: Any, data: str) -> dict[str, Any]:
    """Return the fractions of questions that are refused, by search mode."""
    queries, _, titles = questions(data)
    foreign = questions(OTHER[data])[0][:FOREIGN]
    searcher.dense_weight = generation.description.dense_weight
    figures = {}
    for mode in ("hybrid", "dense", "text"):
        searcher.mode = mode
        judge = searcher.relevance
        answerable = searcher.search(queries, 5)
        searcher.relevance = None
        wide = searcher.search(queries, WIDE)
        searcher.relevance = judge
        without = [
            judge.judged(mode, query, [hit for hit in hits if hit.passage.title not in right], 5)
            for query, hits, right in zip(queries, wide, titles, strict=True)
        ]
        figures[mode] = {
            "answerable, refused": refused(answerable),
            "document taken out, refused": refused(without),
            "other domain, refused": refused(searcher.search(foreign, 5)),
        }
    return {"threshold": figures}


def refused(found: Sequence[Sequence[Any]]) -> float:
    """Return the fraction of questions whose hits are all below the threshold."""
    return round(float(np.mean([not any(hit.relevant for hit in hits) for hits in found])), 3)


if __name__ == "__main__":
    main()
