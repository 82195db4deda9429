"""Measure a step of contrastive training, plain, in chunks and Matryoshka, beside a peer's.

    python benchmarks/contrastive_step.py [--batch 128] [--chunk 16] [--rounds 3] [--large N]

dalm and sentence-transformers (`MultipleNegativesRankingLoss` in both directions, its cached form
and `MatryoshkaLoss` with equal weights that sum to 1) embed the same texts with the same weights of
all-MiniLM-L6-v2, at most 128 tokens of each, with dropout, on one thread, and update them by AdamW.
Each is a process of its own, which warms up on a small batch, and they take turns; medians of CPU
seconds per step and of the processes' peak memory, and the median of the ratios of each turn.
Before that, without dropout, the two losses and ‖g − g′‖ / ‖g′‖ of their gradients. `--large N`:
one process of dalm with a batch of N, in chunks.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import child, data, minilm, row, table
from torch import Tensor

SCALE, LENGTH, STEPS, WARM_UP = 100.0, 128, 2, 8
DIMS = [64, 128, 256]
WAYS = ("plain", "chunks", "Matryoshka", "Matryoshka in chunks")


def starts(batch: int) -> list[range]:
    """Return the rows of each step: a few to warm up, then whole batches."""
    steps = [range(n, n + batch) for n in range(WARM_UP, WARM_UP + batch * STEPS, batch)]
    return [range(WARM_UP), *steps]


def texts(count: int) -> tuple[list[str], list[str]]:
    """Return questions and passages, each of which stands once."""
    from datasets import load_dataset

    pairs: dict[str, str] = {}
    rows = load_dataset("csv", data_files=data("medquad_train.csv"), split="train")
    for query, passage in zip(rows["Query"], rows["Passage"], strict=True):
        if query.casefold() not in map(str.casefold, pairs) and passage not in pairs.values():
            pairs[query] = passage
        if len(pairs) == count:
            break
    return list(pairs), list(pairs.values())


def ours(way: str, batch: int, chunk: int, precision: str) -> tuple[Any, Iterator[Any]]:
    """Return what computes the loss of a batch, and batches."""
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.records import Example, Passage
    from dalm.training.data.batches import Rows
    from dalm.training.objectives.contrastive import Contrastive

    placement = place("cpu", precision)  # type: ignore[arg-type]
    retriever = load_retriever(minilm(), placement, lengths={"query": LENGTH, "passage": LENGTH})
    pairs = zip(*texts(WARM_UP + batch * STEPS), strict=True)
    rows = Rows([Example(query, "", Passage.of(text)) for query, text in pairs], retriever)
    options = {"chunk": chunk if "chunks" in way else None, "dims": DIMS * ("Mat" in way)}
    objective = Contrastive(retriever, SCALE, **options)
    made = map(rows.collate, starts(batch))

    def compute(given: Any) -> Tensor:
        with placement.autocast():
            return objective(given).total  # type: ignore[no-any-return]

    compute.model = objective  # type: ignore[attr-defined]
    return compute, made


def theirs(way: str, batch: int, chunk: int, precision: str) -> tuple[Any, Iterator[Any]]:
    """Return the same of sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(minilm(), device="cpu")
    model.max_seq_length = LENGTH
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("pooler" not in name)
    symmetric: dict[str, Any] = {
        "directions": ("query_to_doc", "doc_to_query"),
        "partition_mode": "per_direction",
        "scale": SCALE,
    }
    loss: Any = losses.MultipleNegativesRankingLoss(model, **symmetric)
    if "chunks" in way:
        loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=chunk, **symmetric)
    if "Mat" in way:
        sizes = [384, *DIMS]
        loss = losses.MatryoshkaLoss(model, loss, sizes, [1 / len(sizes)] * len(sizes))
    queries, passages = texts(WARM_UP + batch * STEPS)
    columns = ([each[s.start : s.stop] for each in (queries, passages)] for s in starts(batch))
    made = ([model.preprocess(column) for column in pair] for pair in columns)
    bf16 = precision == "bf16"

    def compute(given: Any) -> Tensor:
        # A loss in chunks runs its second pass in `backward`, in the precision of the first.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return loss([dict(each) for each in given], None)  # type: ignore[no-any-return]

    compute.model = loss  # type: ignore[attr-defined]
    return compute, made


SIDES: dict[str, Callable[..., tuple[Any, Iterator[Any]]]] = {"ours": ours, "theirs": theirs}


def measured(who: str, way: str, batch: int, chunk: int, precision: str) -> dict[str, float]:
    """Return CPU seconds of a step, the process's peak in MB, and the peak before the first one."""
    torch.set_num_threads(1)
    compute, batches = SIDES[who](way, batch, chunk, precision)
    given = list(batches)
    compute.model.train()
    trained = [p for p in compute.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    before, seconds = peak(), list[float]()
    for each in given:
        start = time.process_time()
        compute(each).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
    return {"seconds": statistics.median(seconds[1:]), "peak": peak(), "before": before}


def peak() -> float:
    """Return the process's peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def computed(who: str, way: str, batch: int, chunk: int, file: str) -> float:
    """Write the gradient of a batch without dropout, and return its loss."""
    compute, batches = SIDES[who](way, batch, chunk, "fp32")
    compute.model.eval()
    _, given, *_ = batches
    loss = compute(given)
    loss.backward()
    named = sorted((n.split(".model.")[-1], p) for n, p in compute.model.named_parameters())
    parts = [p.grad.flatten() for _, p in named if p.grad is not None]
    np.save(file, torch.cat(parts).numpy())
    return loss.item()


def agreement(way: str, batch: int, chunk: int) -> tuple[str, ...]:
    """Return the losses of both, and the difference of their gradients."""
    found = {}
    for who in SIDES:
        file = f"/tmp/contrastive_step_{who}.npy"
        loss = child(Path(__file__), "computed", who, way, str(batch), str(chunk), file)
        found[who] = loss, np.load(file)
        Path(file).unlink()
    (loss, gradient), (other, expected) = found["ours"], found["theirs"]
    assert gradient.shape == expected.shape
    difference = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    return row(way, f"{loss:.7f}", f"{other:.7f}", f"{difference:.1e}")


def compared(way: str, given: argparse.Namespace) -> tuple[str, ...]:
    """Measure both in turns and return a line of the table."""
    found: dict[str, list[dict[str, float]]] = {who: [] for who in SIDES}
    for _ in range(given.rounds):
        for who, seen in found.items():
            sizes = (str(given.batch), str(given.chunk), given.precision)
            seen.append(child(Path(__file__), "measured", who, way, *sizes))
            print(who, way, seen[-1], file=sys.stderr)

    def median(who: str, key: str) -> float:
        return statistics.median(each[key] for each in found[who])

    turns = zip(found["ours"], found["theirs"], strict=True)
    ratios = [mine["seconds"] / other["seconds"] for mine, other in turns]
    return row(
        way,
        *(f"{median(who, 'seconds'):.2f}" for who in SIDES),
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        *(f"{median(who, 'peak'):.0f}" for who in SIDES),
        f"{median('ours', 'peak') / median('theirs', 'peak'):.2f}",
    )


def main() -> None:
    """Run the comparison, or a part of it in this process."""
    calls: dict[str, Callable[..., Any]] = {"measured": measured, "computed": computed}
    if sys.argv[1:2] and sys.argv[1] in calls:
        name, who, way, batch, chunk, last = sys.argv[1:]
        print(json.dumps(calls[name](who, way, int(batch), int(chunk), last)))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=0)
    given = parser.parse_args()
    if given.large:
        sizes = (str(given.large), str(given.chunk), given.precision)
        print(child(Path(__file__), "measured", "ours", "chunks", *sizes))
        return
    rows = [agreement(way, 32, 8) for way in WAYS]
    heading = ("loss", "dalm", "sentence-transformers", "difference of the gradients")
    table("Losses of a batch of 32, in chunks of 8, without dropout", heading, rows)
    rows = [compared(way, given) for way in WAYS]
    heading = ("step", "s dalm", "s sentence-transformers", "ratio (range)")
    heading = (*heading, "MB dalm", "MB sentence-transformers", "ratio of memory")
    title = f"A step with a batch of {given.batch}, in chunks of {given.chunk}, {given.precision}"
    table(title, heading, rows)


if __name__ == "__main__":
    main()
