"""Measure a step of contrastive training, plain, in chunks and Matryoshka, beside a peer's.

    python benchmarks/contrastive_step.py [agreement] [seconds] [memory] [--batch 32] [--chunk 8]

dalm and sentence-transformers (`MultipleNegativesRankingLoss` in both directions, its cached form
and `MatryoshkaLoss` with equal weights that sum to 1) embed the same texts with the same weights of
all-MiniLM-L6-v2, at most 128 tokens of each, in fp32 on one thread.

`agreement`: the losses of both, and ‖g − g′‖ / ‖g′‖ of their gradients, without dropout.
`seconds`: CPU seconds of forward and backward pass with dropout. Both are in one process and take
turns, on another batch in each round; medians, and the median of the rounds' ratios.
`memory`: the peak of a process that takes one step with AdamW, and by how much that is more than
before the step. `--large N`: the same of dalm alone, with a batch of N, in chunks. To take less
time, all passages but those of the first two chunks are cut to a few words: the longest chunk has
the peak.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from common import child, data, minilm, resident, row, table
from torch import Tensor

SCALE, LENGTH = 100.0, 128
DIMS = [64, 128, 256]
WAYS = ("plain", "chunks", "Matryoshka", "Matryoshka in chunks")
Step = tuple[Any, Iterator[Any]]
"""What computes the loss of a batch, with the model that it trains, and batches."""


@cache
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


def ours(way: str, batch: int, chunk: int, batches: int = 1) -> Step:
    """Return a step of dalm."""
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.records import Example, Passage
    from dalm.training.data.batches import Rows
    from dalm.training.objectives.contrastive import Contrastive

    lengths = {"query": LENGTH, "passage": LENGTH}
    retriever = load_retriever(minilm(), place("cpu", "fp32"), lengths=lengths)  # type: ignore[arg-type]
    pairs = zip(*texts(batch * batches), strict=True)
    rows = Rows([Example(query, "", Passage.of(text)) for query, text in pairs], retriever)
    options = {"chunk": chunk if "chunks" in way else None, "dims": DIMS * ("Mat" in way)}
    objective = Contrastive(retriever, SCALE, **options)

    def compute(given: Any) -> Tensor:
        return objective(given).total  # type: ignore[no-any-return]

    compute.model = objective  # type: ignore[attr-defined]
    return compute, map(rows.collate, starts(batch, batches))


def theirs(way: str, batch: int, chunk: int, batches: int = 1) -> Step:
    """Return a step of sentence-transformers."""
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
    both = texts(batch * batches)
    columns = ([each[s.start : s.stop] for each in both] for s in starts(batch, batches))

    def compute(given: Any) -> Tensor:
        return loss([dict(each) for each in given], None)  # type: ignore[no-any-return]

    compute.model = loss  # type: ignore[attr-defined]
    return compute, ([model.preprocess(column) for column in pair] for pair in columns)


def starts(batch: int, batches: int) -> list[range]:
    """Return the rows of each batch."""
    return [range(start, start + batch) for start in range(0, batch * batches, batch)]


SIDES = {"dalm": ours, "sentence-transformers": theirs}


def agreement(way: str, batch: int, chunk: int) -> tuple[str, ...]:
    """Return the losses of both, and the difference of their gradients."""
    found = []
    for side in SIDES.values():
        compute, batches = side(way, batch, chunk)
        compute.model.eval()
        loss = compute(next(batches))
        loss.backward()
        named = sorted((n.split(".model.")[-1], p) for n, p in compute.model.named_parameters())
        gradient = torch.cat([p.grad.flatten() for _, p in named if p.grad is not None])
        found.append((loss.item(), gradient))
    (loss, gradient), (other, expected) = found
    difference = float((gradient - expected).norm() / expected.norm())
    return row(way, f"{loss:.7f}", f"{other:.7f}", f"{difference:.1e}")


def seconds(way: str, batch: int, chunk: int, rounds: int) -> tuple[str, ...]:
    """Return the seconds of both, and their ratio."""
    steps = [side(way, batch, chunk, rounds + 1) for side in SIDES.values()]
    spent: list[list[float]] = []
    for number, given in enumerate(zip(*(batches for _, batches in steps), strict=True)):
        turn = [0.0, 0.0]
        for side in (0, 1) if number % 2 else (1, 0):  # who goes first finds no memory to reuse
            compute, _ = steps[side]
            compute.model.train()
            start = time.process_time()
            compute(given[side]).backward()
            turn[side] = time.process_time() - start
        print(way, turn, file=sys.stderr)
        spent.append(turn)
    spent = spent[1:]  # the first round warms up
    ratios = [mine / other for mine, other in spent]
    medians = (f"{statistics.median(each):.2f}" for each in zip(*spent, strict=True))
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return row(way, *medians, ratio)


def memory_of(step: Step) -> dict[str, float]:
    """Take a step in this process; return its peak, and by how much it is more than before."""
    compute, batches = step
    given = next(batches)
    compute.model.train()
    trained = [p for p in compute.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    for parameter in trained:  # the moments are there from the second step on
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    before = resident()
    compute(given).backward()
    optimizer.step()
    return {"peak": resident(), "step": resident() - before}


def memory(way: str, batch: int, chunk: int) -> tuple[str, ...]:
    """Return the peak of each, in a process of its own."""
    given = (way, str(batch), str(chunk))
    found = [child(Path(__file__), "memory_of", who, *given) for who in SIDES]
    peaks = (f"{each['peak']:.0f} ({each['step']:.0f})" for each in found)
    return row(way, *peaks, f"{found[0]['peak'] / found[1]['peak']:.2f}")


def main() -> None:
    """Measure what is asked for, or the memory of a step in this process."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["memory_of"]:
        who, way, batch, chunk = sys.argv[2:]
        print(json.dumps(memory_of(SIDES[who](way, int(batch), int(chunk)))))
        return
    parts = ("agreement", "seconds", "memory")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, "all"], default="all")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--chunk", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=0)
    given = parser.parse_args()
    chosen = {given.parts} if isinstance(given.parts, str) else {*given.parts}
    sizes = (given.batch, given.chunk)
    if given.large:
        queries, passages = texts(given.large)
        for place in range(2 * given.chunk, given.large):
            passages[place] = " ".join([str(place), *passages[place].split()[:10]])
            queries[place] = " ".join([str(place), *queries[place].split()[:10]])
        print(memory_of(ours("chunks", given.large, given.chunk)))
        return
    default = [(n, parser.get_default(n)) for n in ("batch", "chunk", "rounds")]
    trial = any(getattr(given, name) != value for name, value in default)
    title = f"batch of {given.batch}, chunks of {given.chunk}"
    if chosen & {"agreement", "all"}:
        heading = ("loss", *SIDES, "difference of the gradients, relative")
        rows = [agreement(way, *sizes) for way in WAYS]
        table("contrastive_agreement", f"Loss, {title}", heading, rows, trial=trial)
    if chosen & {"seconds", "all"}:
        heading = ("CPU seconds", *SIDES, "ratio (range)")
        rows = [seconds(way, *sizes, given.rounds) for way in WAYS]
        table("contrastive_seconds", f"Seconds, {title}", heading, rows, trial=trial)
    if chosen & {"memory", "all"}:
        heading = ("MB, peak (of the step)", *SIDES, "ratio of the peaks")
        rows = [memory(way, *sizes) for way in WAYS]
        table("contrastive_memory", f"Memory, {title}", heading, rows, trial=trial)


if __name__ == "__main__":
    main()
