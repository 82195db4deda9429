"""Measure a joint step with SmolLM2-135M and LoRA: its passes, the whole, and its memory.

    python benchmarks/generator_step.py [passes] [step] [memory] [--batch 4] [--rounds 1]

all-MiniLM-L6-v2 and the generator in DALM_BENCH_GENERATOR, by default one of SmolLM2-135M's sizes
with random weights; LoRA with its defaults on the generator, `rag_token` with K = 4 on MedQuAD,
default lengths, fp32, one thread.

Four ways to compute the same step take turns in one process, on another batch in each round:
`shared`, as dalm does: prompts that begin alike in one row, activations of the first micro-batch
kept; `twice`: the same with every activation computed again; `apart`: twice, each prompt in a row
of its own; `plain`: all prompts padded to the longest of them, with the logits of every token and
all activations kept. CPU seconds, medians.

`passes`: the scoring pass without gradient, and the second one, forward and backward, without
dropout, with candidates from the batch and from an index of 128 passages; the largest difference of
a log-probability between shared and apart, and of the gradient of their sum, relative.
`step`: forward and backward pass of the whole objective, and the share of it that its matrix
products take alone: what is left is attention, norms, activations, dropout and Python. The plain
step is the generator's alone, a question's prompts at a time: all of them take over 20 GB.
`memory`: the peak of a process that takes one step, above that before it, with batches of 2.
"""

import argparse
import atexit
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from common import child, data, forget_peak, minilm, resident, row, table

WAYS = ("shared", "twice", "apart", "plain")
CANDIDATES = 4
LORA = {"rank": 16, "alpha": 32, "dropout": 0.05}
PASSAGES = 128
SMOLLM2 = {
    **{"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1_536},
    **{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
    **{"max_position_embeddings": 2_048, "tie_word_embeddings": True},
}


def generator_folder(texts: list[str]) -> str:
    """Return the folder that DALM_BENCH_GENERATOR names, or one with random weights."""
    if (named := os.environ.get("DALM_BENCH_GENERATOR")) is not None:
        return named
    from transformers import LlamaConfig, LlamaForCausalLM

    from dalm.models.tiny import build_generator

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    build_generator(texts, Path(folder), width=16, layers=1, heads=1, vocabulary=8_000)
    LlamaForCausalLM(LlamaConfig(**SMOLLM2)).save_pretrained(folder)  # type: ignore[arg-type]
    return folder


def objective_of(batch: int, candidates: str, batches: int) -> tuple[Any, list[Any]]:
    """Return the objective, and batches for it."""
    import torch

    from dalm.config import RagE2E
    from dalm.io.examples import read_examples
    from dalm.models.dropout import draw_zeros_alone
    from dalm.models.generator import load_generator
    from dalm.models.loading import lora, place
    from dalm.models.prefix_tree import shares_prefixes
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.training_index import TrainingIndex
    from dalm.training.data.retrieved_rows import joint_rows
    from dalm.training.objectives.objective import objective_class

    torch.manual_seed(0)
    settings = RagE2E(
        output_dir="unused",
        candidates=candidates,  # type: ignore[arg-type]
        num_candidates=CANDIDATES,
    )
    examples = read_examples(data("medquad_train.csv"), settings, needs={"passage", "answer"})
    placement = place("cpu", "fp32")
    retriever = load_retriever(minilm(), placement)
    texts = [f"{e.query} {e.answer} {e.passage.text}" for e in examples[::10] if e.passage]
    generator = load_generator(generator_folder(texts), placement)
    generator.add_lora(lora(**LORA, targets=None, task="CAUSAL_LM"))  # type: ignore[arg-type]
    searched = candidates == "index"
    every = list({e.passage.id: e.passage for e in examples if e.passage}.values())
    used = examples[:: len(examples) // (2 * batch * batches + 8)]
    rows = joint_rows(used, every[: PASSAGES if searched else 0], retriever, generator, settings)
    index = TrainingIndex(len(rows.base), "benchmark", retriever.device) if searched else None
    objective = objective_class("rag_token").from_config(settings, rows, index)
    objective.diagnostic_batch = None
    objective.begin_update(0.0)
    shares_prefixes(generator)  # tried once a run, not once a step
    draw_zeros_alone(objective)
    objective.train()
    order = torch.randperm(len(rows)).tolist()
    chosen = [order[2 + n * batch : 2 + (n + 1) * batch] for n in range(batches)]
    return objective, [rows.collate(some) for some in [order[:2], *chosen]]


@contextmanager
def way_of(name: str, generator: Any) -> Iterator[None]:
    """Compute steps in one of the ways."""
    from dalm.training import scoring
    from dalm.training.objectives import joint

    score, kept, tried = joint.score_candidates, scoring.KEPT, generator.shares_prefixes
    if name in ("apart", "plain"):
        generator.shares_prefixes = False
    if name in ("twice", "apart"):
        scoring.KEPT = 0
    if name == "plain":
        joint.score_candidates = plain_candidates  # type: ignore[assignment]
    try:
        yield
    finally:
        joint.score_candidates, scoring.KEPT = score, kept
        generator.shares_prefixes = tried


def plain_candidates(
    generator: Any, prompts: Any, candidates: int = CANDIDATES, *, width: int = 0, **_: Any
) -> Any:
    """Score answers by the log-softmax of all logits of all prompts, with gradient."""
    import torch

    from dalm.models.batching import pad
    from dalm.training.scoring import unflatten

    ids, mask = pad([prompt.tokens for prompt in prompts], generator.pad_token)
    more = max(0, width - ids.shape[1])
    ids = torch.nn.functional.pad(ids, (0, more), value=generator.pad_token)
    mask = torch.nn.functional.pad(mask, (0, more))
    log_probs = generator.model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    chosen = log_probs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    starts = torch.tensor([[prompt.answer_start] for prompt in prompts])
    scored = (torch.arange(1, ids.shape[1]) >= starts) & mask[:, 1:].bool()
    table = unflatten(chosen[scored], scored.sum(1))
    return table.view(-1, candidates, table.shape[1])


def turns(objective: Any, batches: list[Any], ways: Any, run: Callable[[Any], Any]) -> Any:
    """Return what `run` returns of each way on each batch, after a small one to warm up."""
    found: dict[str, list[Any]] = {way: [] for way in ways}
    for number, batch in enumerate(batches):
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for way in order:
            with way_of(way, objective.generator):
                found[way].append(run(batch))
            seconds = {name: each for name, each in found[way][-1].items() if name != "of"}
            print(way, seconds, file=sys.stderr, flush=True)
    return {way: each[1:] for way, each in found.items()}


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds, and what was computed."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def plain_step(objective: Any, batch: Any) -> dict[str, float]:
    """Return the seconds of a plain step's generator, a question's prompts at a time."""
    from dalm.models.batching import pad

    generator, seconds = objective.generator, {"forward": 0.0, "backward": 0.0}
    objective.zero_grad(set_to_none=True)
    prompts = prompts_of(objective, batch)
    longest = max(prompts, key=lambda prompt: prompt.length)
    width = pad([longest.tokens], generator.pad_token)[0].shape[1]
    for start in range(0, len(prompts), CANDIDATES):
        some = prompts[start : start + CANDIDATES]
        used, loss = timed(lambda some=some: plain_candidates(generator, some, width=width).sum())
        seconds["forward"] += used
        seconds["backward"] += timed(loss.backward)[0]
    return {"step": sum(seconds.values()), **seconds}


def step(objective: Any, batch: Any) -> dict[str, float]:
    """Return the seconds of a step and of its halves."""
    objective.zero_grad(set_to_none=True)
    forward, loss = timed(lambda: objective(batch).total)
    backward, _ = timed(loss.backward)
    return {"step": forward + backward, "forward": forward, "backward": backward}


def prompts_of(objective: Any, batch: Any) -> Any:
    """Return the candidates' prompts, those of a question together."""
    import torch

    from dalm.models.loading import evaluating
    from dalm.training import scoring

    with torch.no_grad(), evaluating(objective):
        found = objective.source(batch)
    each = [[passage] for some in found.passages for passage in some]
    return scoring.candidate_prompts(objective.generator, batch["pieces"], each)


def passes(objective: Any, batch: Any) -> dict[str, Any]:
    """Return the seconds of the scoring pass, and of the second pass on all its rows."""
    import torch

    from dalm.models.loading import evaluating
    from dalm.training import gradient_cache, scoring

    generator, prompts = objective.generator, prompts_of(objective, batch)
    generator.zero_grad(set_to_none=True)
    with evaluating(generator):  # without dropout, so that the ways give the same
        plan = scoring._plan(generator, prompts, CANDIDATES)._replace(kept=0)
        parameters = list(generator.parameters())
        first, values = timed(lambda: gradient_cache.recomputed(plan, parameters))
        second, _ = timed((values.exp().sum() / len(prompts)).backward)
    gradient = torch.cat([p.grad.flatten() for p in generator.parameters() if p.requires_grad])
    read, _ = scoring.tokens_read(generator, prompts, CANDIDATES)
    return {"first": first, "second": second, "read": read, "of": (values.detach(), gradient)}


def products(objective: Any, batch: Any) -> float:
    """Return the seconds that the matrix products of a step take alone."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: Counter[tuple[Any, ...]] = Counter()

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
                a, b = args[-2:]
                seen[(*a.shape, *a.stride(), *b.shape, *b.stride())] += 1
            return func(*args, **(kwargs or {}))

    with Noting():
        step(objective, batch)
    spent = 0.0
    for shape, count in seen.items():
        a, b = (
            torch.empty_strided(shape[at : at + 2], shape[at + 2 : at + 4]).normal_()
            for at in (0, 4)
        )
        spent += count * min(timed(partial(torch.mm, a, b))[0] for _ in range(3))
    return spent


def memory_of(way: str, batch: int) -> float:
    """Return the peak of a step above the memory before it, in MB."""
    objective, batches = objective_of(batch, "in-batch", 1)
    with way_of(way, objective.generator):
        forget_peak()
        before = resident("VmRSS")
        step(objective, batches[1])
        return resident("VmHWM") - before


def report_passes(given: argparse.Namespace, title: str) -> None:
    rows = []
    for source in ("in-batch", "index"):
        objective, batches = objective_of(given.batch, source, given.rounds)
        found = turns(objective, batches, ("shared", "apart"), partial(passes, objective))
        pairs = list(zip(found["shared"], found["apart"], strict=True))
        for name, key in (("scoring pass, s", "first"), ("second pass, s", "second")):
            seconds = [statistics.median(each[key] for each in found[way]) for way in found]
            ratio = statistics.median(b[key] / a[key] for a, b in pairs)
            rows.append(row(f"{source}: {name}", *(f"{s:.2f}" for s in seconds), f"{ratio:.2f}"))
        read = [sum(each["read"] for each in found[way]) for way in found]
        rows.append(
            row(f"{source}: tokens read", *(f"{r:,}" for r in read), f"{read[1] / read[0]:.2f}")
        )
        values = max(float((a["of"][0] - b["of"][0]).abs().max()) for a, b in pairs)
        norms = [float((a["of"][1] - b["of"][1]).norm() / b["of"][1].norm()) for a, b in pairs]
        rows.append(row(f"{source}: largest difference, nats", f"{values:.1e}", "", ""))
        rows.append(row(f"{source}: difference of the gradients", f"{max(norms):.1e}", "", ""))
    heading = ("candidates", "shared", "apart", "apart / shared")
    title = f"Passes over the candidates' prompts, {title}"
    table("generator_passes", title, heading, rows, trial=given.trial)


def report_step(given: argparse.Namespace, title: str) -> None:
    objective, batches = objective_of(given.batch, "in-batch", given.rounds)
    found = turns(objective, batches, WAYS[:-1], partial(step, objective))
    found |= turns(objective, batches, WAYS[-1:], partial(plain_step, objective))
    share = products(objective, batches[-1]) / found["shared"][-1]["step"]
    rows = []
    for way in WAYS:
        keys = ("forward", "backward", "step")
        seconds = [statistics.median(each[key] for each in found[way]) for key in keys]
        pairs = zip(found[way], found["plain"], strict=True)
        ratio = statistics.median(a["step"] / b["step"] for a, b in pairs)
        of_step = f"{share:.2f}" if way == "shared" else ""
        rows.append(row(way, *(f"{s:.1f}" for s in seconds), f"{ratio:.2f}", of_step))
    heading = ("way", "forward, s", "backward, s", "step, s", "of plain", "its products alone")
    title = f"Seconds of a joint step, {title}"
    table("generator_step", title, heading, rows, trial=given.trial)


def report_memory(given: argparse.Namespace, title: str) -> None:
    peaks = {way: child(Path(__file__), "memory_of", way, "2") for way in WAYS}
    rows = [row(way, f"{mb:.0f}", f"{mb / peaks['plain']:.2f}") for way, mb in peaks.items()]
    title = f"Peak memory of a joint step, {title.replace(f'of {given.batch}', 'of 2')}"
    table("generator_memory", title, ("way", "MB", "of plain"), rows, trial=given.trial)


def main() -> None:
    """Measure what is asked for, or the memory of a step in this process."""
    import torch

    torch.set_num_threads(1)
    if sys.argv[1:2] == ["memory_of"]:
        print(json.dumps(memory_of(sys.argv[2], int(sys.argv[3]))))
        return
    parts = {"passes": report_passes, "step": report_step, "memory": report_memory}
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trial", action="store_true", help="print the tables, write none")
    given = parser.parse_args()
    named = os.environ.get("DALM_BENCH_GENERATOR", "")
    model = Path(named).name or "SmolLM2-135M's sizes, random weights"
    title = f"{model}, batch of {given.batch}, {CANDIDATES} candidates"
    for name in given.parts or parts:
        parts[name](given, title)


if __name__ == "__main__":
    main()
