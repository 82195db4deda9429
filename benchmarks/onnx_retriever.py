"""Measure a retriever in ONNX, fp32 and int8, beside torch: recall, size, speed on one core.

MiniLM, untuned, with the test questions of COVID-QA over all its passages.
"""

import csv
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from common import data, minilm, row, table

from dalm.models import onnx_export
from dalm.models.embedding_model import input_module
from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever

ROUNDS = 5


def rows_of(name: str) -> list[dict[str, str]]:
    with Path(data(name)).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def ranks(retriever: Retriever, passages: list[str], questions: list[dict[str, str]]) -> Any:
    """Return the rank of each question's passage, from 1."""
    queries = retriever.encode_queries([each["Query"] for each in questions])
    scores = queries @ retriever.encode_passages(passages).T
    gold = torch.tensor([passages.index(each["Passage"]) for each in questions])
    return (scores > scores.gather(1, gold[:, None])).sum(1) + 1


def seconds(retriever: Retriever, questions: list[dict[str, str]]) -> float:
    """Return the time of all questions, encoded one by one."""
    start = time.perf_counter()
    for each in questions:
        retriever.encode_queries([each["Query"]])
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    lengths: Any = {"query": 256, "passage": 256}
    retriever = load_retriever(minilm(), place("cpu", "fp32"), lengths=lengths)
    questions = rows_of("covidqa_test.csv")
    passages = [each["Passage"] for each in rows_of("covidqa_passages.csv")]
    module = input_module(retriever.model, "query")
    own = module.model
    with tempfile.TemporaryDirectory() as folder:
        onnx_export.export(retriever, Path(folder))
        files = {"onnx, fp32": onnx_export.FP32, "onnx, int8": onnx_export.INT8}
        models = {"torch, fp32": own} | {
            name: onnx_export.OnnxModel(Path(folder) / file, own.config, threads=1)
            for name, file in files.items()
        }
        sizes = {name: (Path(folder) / file).stat().st_size for name, file in files.items()}
    sizes["torch, fp32"] = sum(p.numel() * p.element_size() for p in own.parameters())
    found, best = {}, dict.fromkeys(models, float("inf"))
    for name, model in models.items():
        module.model = model
        found[name] = ranks(retriever, passages, questions)
    for _ in range(ROUNDS):  # in turn: what else runs on the machine slows all alike
        for name, model in models.items():
            module.model = model
            best[name] = min(best[name], seconds(retriever, questions))
    rows = []
    for name, rank in found.items():
        figures = [(rank <= k).float().mean() for k in (1, 10)]
        figures.append((1 / rank).where(rank <= 10, torch.tensor(0.0)).mean())
        shown = [f"{figure:.3f}" for figure in figures]
        speed = f"{len(questions) / best[name]:.0f}"
        rows.append(row(name, *shown, f"{sizes[name] / 1e6:.0f}", speed))
    heading = ("model", "recall@1", "recall@10", "MRR@10", "MB", "queries/s on one core")
    title = "COVID-QA, 139 questions over 2,341 passages, MiniLM untuned, 256 tokens"
    table("onnx_retriever", title, heading, rows, trial=False)


if __name__ == "__main__":
    main()
