"""Measure encoding on a CPU: torch, sentence-transformers' own encode, and ONNX Runtime in int8.

all-MiniLM-L6-v2, fp32, passages of COVID-QA at 256 tokens: those of the test questions, and others.
Parts of the passages are encoded in turns; memory is the peak of a process that encodes one part.
sentence-transformers' ONNX backend is left out: it doesn't load beside transformers 5.
"""

import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from common import child, data, minilm, resident, row, table

LENGTH, PASSAGES, PARTS = 256, 256, 4
WAYS = ("dalm, torch", "sentence-transformers", "dalm, onnx-int8")

Encode = Callable[[Sequence[str]], Any]


def rows_of(name: str) -> list[dict[str, str]]:
    with Path(data(name)).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def passages() -> list[str]:
    """Return the passages of the test questions, and others up to their number."""
    texts = [
        each["Passage"] for name in ("test", "passages") for each in rows_of(f"covidqa_{name}.csv")
    ]
    return list(dict.fromkeys(texts))[:PASSAGES]


def encoders(way: str) -> tuple[Encode, Encode]:
    """Return how queries and passages are encoded."""
    import torch

    torch.set_num_threads(1)
    if way == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(minilm(), device="cpu")
        model.max_seq_length = LENGTH
        return (
            lambda texts: torch.from_numpy(model.encode(list(texts), show_progress_bar=False)),
        ) * 2
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.encoder_backend import use_backend

    lengths: Any = {"query": LENGTH, "passage": LENGTH}
    retriever = load_retriever(minilm(), place("cpu", "fp32"), lengths=lengths)
    use_backend(retriever, way.removeprefix("dalm, "))
    return retriever.encode_queries, retriever.encode_passages


def memory(way: str) -> dict[str, float]:
    """Return the peak of this process, and by how much encoding a part raised it, in MB."""
    _, encode = encoders(way)
    before = resident()
    encode(passages()[: PASSAGES // PARTS])
    return {"peak": resident(), "raised": resident() - before}


def recalls(queries: Any, vectors: Any, gold: Sequence[int]) -> list[float]:
    """Return recall@1 and recall@10."""
    best = (queries @ vectors.T).topk(10).indices
    hits = best == best.new_tensor(gold)[:, None]
    return [float(hits[:, :k].any(1).float().mean()) for k in (1, 10)]


def main() -> None:
    """Print a line for each way."""
    if sys.argv[1:]:
        print(json.dumps(memory(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # of the exported model
        import torch

        texts, questions = passages(), rows_of("covidqa_test.csv")
        gold = [texts.index(each["Passage"]) for each in questions]
        used = {way: encoders(way) for way in WAYS}
        seconds, vectors = dict.fromkeys(WAYS, 0.0), {way: [] for way in WAYS}
        for part in range(PARTS):
            for way, (_, encode) in used.items():
                start = time.process_time()
                vectors[way].append(encode(texts[part::PARTS]))
                seconds[way] += time.process_time() - start
        rows = []
        for way, (encode, _) in used.items():
            found = torch.empty(len(texts), vectors[way][0].shape[1])
            for part, some in enumerate(vectors[way]):
                found[part::PARTS] = some
            shown = recalls(encode([each["Query"] for each in questions]), found, gold)
            took = child(Path(__file__), way)
            speed = f"{len(texts) / seconds[way]:.1f}"
            sizes = (f"{took['peak']:.0f}", f"{took['raised']:.0f}")
            rows.append(row(way, speed, *sizes, *(f"{each:.3f}" for each in shown)))
    title = f"{len(texts)} passages, {len(questions)} questions, MiniLM untuned, {LENGTH} tokens"
    heading = ("encoder", "passages/CPU-s", "peak MB", "raised by encoding, MB")
    table("encoding", title, (*heading, "recall@1", "recall@10"), rows, trial=False)


if __name__ == "__main__":
    main()
