"""Run one cell of an experiment: train with some options, evaluate, print JSON.

    python cell.py '{"table": ..., "test": ..., "retriever": ..., "generator": ..., "options": {}}'

A cell runs in its own process, so that peak memory is the cell's. `options` are those of the cell's
`command`; if it names none, of `RagE2E`, of `RetrieverOnly` if there is no generator to train
("alone": true), or of `GeneratorOnly` if there is no retriever to train ("reader": true). Without
options the pair is evaluated untrained. `encodes_in` is the precision in which the passages to
search are encoded, fp32 by default.
"""

import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


IMPLIED = {
    "alone": "train-retriever-only",
    "reader": "train-generator-only",
    "both": "train-rag-e2e",
}
"""Command of a cell that names none."""


def main() -> None:
    cell = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        trained = train(cell, folder)
        names = [f"{folder}/{name}" for name in ("retriever", "generator")]
        given = [cell["retriever"], cell["generator"]]
        pair = [new if Path(new).exists() else old for new, old in zip(names, given, strict=True)]
        print(json.dumps({**trained, **measure(cell, *pair)}))


def train(cell: dict[str, Any], folder: str) -> dict[str, Any]:
    """Train; return the cost and the first and last line of the log."""
    import dalm

    if cell.get("options") is None:
        return {}
    shared = {"output_dir": folder, "overwrite_output_dir": True, "checkpointing_steps": 10**6}
    options = {**shared, "seed": cell["seed"], **cell["options"]}
    implied = "alone" if cell.get("alone") else "reader" if cell.get("reader") else "both"
    table, encoder, generator = (cell.get(name) for name in ("table", "retriever", "generator"))
    start, cpu = time.perf_counter(), time.process_time()
    match cell.get("command", IMPLIED[implied]):
        case "train-retriever-only":
            dalm.train_retriever_only(encoder, table, dalm.RetrieverOnly(**options))
        case "train-generator-only":
            dalm.train_generator_only(table, generator, dalm.GeneratorOnly(**options))
        case "train-rag-e2e":
            dalm.train_rag_e2e(table, encoder, generator, dalm.RagE2E(**options))
        case "train-reranker":
            dalm.train_reranker(encoder, table, dalm.RerankerTraining(**options))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    lines = [json.loads(x) for x in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "mb": lines[-1]["peak_memory_mb"],
        "prompt_tokens": _sum(lines, "prompt_tokens"),
        "refresh_seconds": lines[-1].get("refresh_seconds", 0.0),
        "first": lines[0],
        "last": lines[-1],
        "log": lines[:: max(1, len(lines) // 20)],
    }


def _sum(lines: list[dict[str, Any]], name: str) -> float:
    """Sum a value that is logged as a mean over the updates since the previous line."""
    steps = [0, *(line["step"] for line in lines)]
    spans = (after - before for before, after in pairwise(steps))
    return sum(span * line.get(name, 0.0) for span, line in zip(spans, lines, strict=True))


def measure(cell: dict[str, Any], retriever_name: str, generator_name: str) -> dict[str, float]:
    """Return recall, MRR, exact match, F1, NLL of the answer, and the gold passage's gap."""
    from dalm.config import Columns
    from dalm.eval.answer_metrics import exact_match, token_f1
    from dalm.eval.metrics import mean, means
    from dalm.eval.retrieval_metrics import measure_retrieval
    from dalm.io.examples import read_examples, read_passages
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.rag.pipeline import answer
    from dalm.records import Hit
    from dalm.retrieval.base import DenseSearcher
    from dalm.retrieval.exact import build_index

    placement = place("cpu", cell.get("encodes_in", "fp32"))
    retriever = load_retriever(retriever_name, placement, lengths={"passage": 128})
    generator = load_generator(generator_name, place("cpu", "fp32"))
    examples = read_examples(cell["test"], Columns(), needs={"passage", "answer"})
    gold = [example.passage for example in examples if example.passage]
    base = {passage.id: passage for passage in gold}
    for source in cell.get("base", []):
        base |= {passage.id: passage for passage in read_passages(source, Columns())}
    queries = [example.query for example in examples]
    index = build_index(retriever, list(base.values()))
    hits = DenseSearcher(retriever, index).search(queries, 20)
    found = means(
        measure_retrieval(hits, [{passage.id} for passage in gold], ["R@1", "R@5", "R@20", "RR@10"])
    )
    figures = {name: found[name] for name in ("R@1", "R@5", "R@20", "RR@10")}
    # Every second question for the generator: answering is most of the time.
    queries, hits, gold, examples = (x[::2] for x in (queries, hits, gold, examples))
    references = [[example.answer or ""] for example in examples]
    for name, read in (("found", hits), ("gold", [[Hit(passage, 1.0)] for passage in gold])):
        texts = [
            a.text for a in answer(generator, queries, read, reader_passages=1, max_new_tokens=16)
        ]
        figures[f"EM {name}"] = mean(map(exact_match, texts, references))
        figures[f"F1 {name}"] = mean(map(token_f1, texts, references))
        texts = [each[0].passage.text for each in read]
        figures[f"NLL {name}"] = nll(generator, queries, references, texts)
    others = [passage.text for passage in gold]
    others = others[len(others) // 2 :] + others[: len(others) // 2]
    random = nll(generator, queries, references, others)
    return figures | {"gap": random - figures["NLL gold"]}


def nll(generator: Any, queries: Any, references: Any, passages: Any) -> float:
    """Return the mean negative log-likelihood of the answers' tokens."""
    import torch

    from dalm.training.scoring import score_no_grad

    pieces = [generator.tokenise(list(texts)) for texts in (passages, queries)]
    answers = generator.tokenise_answers([reference[0] for reference in references])
    total, tokens = 0.0, 0
    prompts = [
        generator.frame.join([p.tolist()], q.tolist(), a.tolist(), generator.max_length)
        for p, q, a in zip(*pieces, answers, strict=True)
    ]
    with torch.no_grad():
        for start in range(0, len(prompts), 64):
            some = prompts[start : start + 64]
            total -= float(score_no_grad(generator, some).sum())
            tokens += sum(prompt.length - prompt.answer_start for prompt in some)
    return total / tokens


if __name__ == "__main__":
    main()
