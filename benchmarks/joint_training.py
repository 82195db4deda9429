"""Measure memory and time of one step of joint training, beside a naive implementation.

Retriever all-MiniLM-L6-v2, generator a Llama of 4 layers of width 256 with a vocabulary of 32,000
(random weights), batch 24, default lengths, fp32; the index holds 512 passages. The naive
implementation (`plain`) pads every text to its maximum, takes the log-softmax of all [B·K, T, V]
logits and keeps the activations of all K passages, including those from the index.

The second table compares a step with 8 candidates with its targets: 1.5 times the memory of a step
with one, and the time of 8 forward and 3 backward passes of it.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import child, data, forget_peak, minilm, resident, row, table

BATCH, VOCABULARY, PASSAGES = 24, 32_000, 512
STEPS = 2
"""The first of them warms up."""
PASSES = {"forward": 8, "backward": 3}
"""What a step with eight candidates may cost, relative to one with one candidate."""


def objective_of(way: str, folder: str) -> tuple[Any, Any]:
    """Return an objective and a batch. `way` is its name, and words: K=8, index, plain ..."""
    import torch

    from dalm.config import RagE2E
    from dalm.io.examples import read_examples
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.training_index import TrainingIndex
    from dalm.training.data.retrieved_rows import joint_rows
    from dalm.training.objectives.objective import objective_class

    torch.manual_seed(0)
    name, *words = way.split()
    options: dict[str, Any] = {"objective": name}
    for word in words:
        if word.startswith("K="):
            options["num_candidates"] = int(word[2:])
    searched = "index" in words
    settings = RagE2E(output_dir=folder, candidates="index" if searched else "in-batch", **options)
    read = read_examples(data("medquad_train.csv"), settings, needs={"passage", "answer"})
    examples = read[:BATCH]
    build_models([f"{e.query} {e.answer} {e.passage.text}" for e in examples], folder)
    placement = place("cpu", "fp32")
    retriever = load_retriever(minilm(), placement, lengths={"passage": 128})
    generator = load_generator(folder, placement, max_length=256)
    more = list({e.passage.id: e.passage for e in read}.values())[: PASSAGES if searched else 0]
    rows = joint_rows(examples, more, retriever, generator, settings)
    index = TrainingIndex(len(rows.base), "benchmark", retriever.device) if searched else None
    objective = objective_class(name).from_config(settings, rows, index)
    objective.begin_update(0.0)
    objective.train()
    batch = rows.collate(range(BATCH))
    if "checkpointing" in words:
        for model in objective.models().values():
            model.checkpoint_activations()
    if "plain" in words:
        be_plain(batch, retriever)
    return objective, batch


def build_models(texts: list[str], folder: str) -> None:
    """Save the generator: its tokenizer knows the texts, its weights are random."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from dalm.models.tiny import build_generator

    build_generator(texts, folder, width=16, layers=1, heads=1, vocabulary=2000)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def be_plain(batch: Any, retriever: Any) -> None:
    """Pad to the maxima, and keep every row's activations."""
    from dalm.training import gradient_cache
    from dalm.training.objectives import dalm_loss, joint

    for kind in {"query", "passage"} & set(batch):
        batch[kind] = padded(batch[kind], retriever.sides[kind].max_len)
    joint.score_candidates = plain_candidates  # type: ignore[assignment]
    dalm_loss.score_candidates = plain_candidates  # type: ignore[assignment]
    joint.score_no_grad = scored_no_grad  # type: ignore[assignment]
    gradient_cache.recomputed = kept  # type: ignore[assignment]


def padded(features: dict[str, Any], length: int) -> dict[str, Any]:
    from torch.nn.functional import pad

    return {name: pad(value, (0, length - value.shape[1])) for name, value in features.items()}


def kept(plan: Any, _parameters: Any) -> Any:
    """Compute all rows at once, with gradient."""
    import numpy as np

    return plan.run(np.arange(len(plan.lengths)))


def plain_scores(generator: Any, prompts: Any) -> Any:
    """Score answers by the log-softmax of all logits of prompts padded to the maximum."""
    import torch
    from torch.nn.functional import pad as pad_more

    from dalm.models.batching import pad
    from dalm.training.scoring import unflatten

    ids, mask = pad([prompt.tokens for prompt in prompts], generator.pad_token)
    ids, mask = (pad_more(t, (0, generator.max_length - t.shape[1])) for t in (ids, mask))
    log_probs = generator.model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    chosen = log_probs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    starts = torch.tensor([[prompt.answer_start] for prompt in prompts])
    scored = (torch.arange(1, ids.shape[1]) >= starts) & mask[:, 1:].bool()
    return unflatten(chosen[scored], scored.sum(1))


def plain_candidates(generator: Any, prompts: Any, candidates: int, **_: Any) -> Any:
    scores = plain_scores(generator, prompts)
    return scores.view(-1, candidates, scores.shape[1])


def scored_no_grad(generator: Any, prompts: Any, candidates: int = 1, *_: Any) -> Any:
    """Score candidates without gradient: even the plain way wouldn't keep what it won't use."""
    import torch

    with torch.no_grad():
        return plain_candidates(generator, prompts, candidates)


def measure(way: str) -> dict[str, float]:
    """Return the median CPU seconds of a step and its halves, and the peak memory of a step."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        objective, batch = objective_of(way, folder)
        forget_peak()
        before = resident("VmRSS")
        seconds, halves = [], []
        for _ in range(STEPS):
            start = time.process_time()
            loss = objective(batch).total
            half = time.process_time()
            loss.backward()
            end = time.process_time()
            seconds.append(end - start)
            halves.append(end - half)
        peak = resident("VmHWM") - before
        found = {"seconds": seconds, "backward": halves}
        if "K=1" in way.split():  # what the bound is made of
            with torch.no_grad():
                found["forward"] = [timed(lambda: objective(batch)) for _ in range(STEPS)]
    return {name: statistics.median(each[1:]) for name, each in found.items()} | {"mb": peak}


def timed(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def against_the_plain_way() -> None:
    plain = {name: child(Path(__file__), f"{name} plain") for name in ("rag_token", "dalm")}
    ways = ("rag_token", "rag_token checkpointing", "dalm")
    rows = [row(way, *_cells(child(Path(__file__), way), plain[way.split()[0]])) for way in ways]
    heading = ("step", "MB", "plain MB", "ratio", "s", "plain s", "ratio")
    title = "One step of joint training: peak memory above the weights, and CPU seconds"
    table("joint_step", title, heading, rows, trial=False)


def _cells(ours: dict[str, float], plain: dict[str, float]) -> list[str]:
    cells = []
    for key, shown in (("mb", "{:.0f}"), ("seconds", "{:.2f}")):
        cells += [shown.format(ours[key]), shown.format(plain[key])]
        cells.append(f"{ours[key] / plain[key]:.2f}")
    return cells


def against_one_candidate() -> None:
    rows = []
    for way in ("rag_token in-batch", "rag_token index", "pdist index"):
        one, eight = (child(Path(__file__), f"{way} K={k}") for k in (1, 8))
        bound = sum(times * one[key] for key, times in PASSES.items())
        memory = [f"{found['mb']:.0f}" for found in (one, eight)]
        seconds = [f"{found['seconds']:.2f}" for found in (one, eight)]
        rows.append(
            row(
                *(way, *memory, f"{eight['mb'] / one['mb']:.2f}"),
                *(*seconds, f"{bound:.2f}", f"{eight['seconds'] / bound:.2f}"),
            )
        )
    heading = ["step", "MB K=1", "MB K=8", "K=8 / K=1 (≤ 1.5)", "s K=1", "s K=8"]
    heading += ["s of 8 forward, 3 backward", "K=8 / that (≤ 1)"]
    title = "One candidate and eight: memory and CPU seconds of a step"
    table("joint_candidates", title, heading, rows, trial=False)


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    against_the_plain_way()
    against_one_candidate()


if __name__ == "__main__":
    main()
