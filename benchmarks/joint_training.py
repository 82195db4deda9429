"""Joint training: memory and time of one step, beside the same step done the plain way.

Retriever all-MiniLM-L6-v2, generator a Llama of 4 layers of width 256 with a vocabulary of 32,000
(random weights), batch 24, default lengths, fp32. The plain way pads every text to its maximum,
takes the log-softmax of all [B·K, T, V] logits and keeps the activations of all K passages.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import child, data, minilm, row, table

BATCH, STEPS, VOCABULARY = 24, 4, 32_000


def step_of(way: str, folder: str) -> Callable[[], Any]:
    """Return a function that runs one forward and backward pass of a fixed batch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from dalm.datasets.tables import read_examples
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.models.tiny import build_generator
    from dalm.settings import RagE2E
    from dalm.training import objectives
    from dalm.training.batches import Rows

    torch.manual_seed(0)
    settings = RagE2E(output_dir=folder)
    examples = read_examples(data("medquad_train.csv"), settings, needs={"passage", "answer"})
    examples = examples[:BATCH]
    texts = [f"{e.query} {e.answer} {e.passage.text}" for e in examples if e.passage]
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
    placement = place("cpu", "fp32")
    retriever = load_retriever(minilm(), placement)
    generator = load_generator(folder, placement)
    words = way.split()
    objective = objectives.RagEndToEnd(
        retriever,
        generator,
        marginal=words[0],  # type: ignore[arg-type]
        scale=settings.logit_scale,
        num_candidates=settings.num_candidates,
        temperature=settings.marginal_temperature,
    )
    objective.train()
    batch = Rows(examples, retriever, generator).collate(range(BATCH))
    if "checkpointing" in words:
        for model in objective.models().values():
            model.checkpoint_activations()
    if "plain" in words:
        batch["query"] = padded(batch["query"], settings.query_max_len)
        batch["passage"] = padded(batch["passage"], settings.passage_max_len)
        objectives.score_answers = plain_scores
        objectives.score_candidates = plain_candidates

    def step() -> None:
        objective(batch).total.backward()

    return step


def padded(features: dict[str, Any], length: int) -> dict[str, Any]:
    from torch.nn.functional import pad

    return {name: pad(value, (0, length - value.shape[1])) for name, value in features.items()}


def plain_scores(generator: Any, prompts: Any) -> Any:
    """Score answers by the log-softmax of all logits of prompts padded to the maximum."""
    import torch
    from torch.nn.functional import pad as pad_more

    from dalm.models.tokens import pad
    from dalm.training.scoring import unflatten

    ids, mask = pad([prompt.tokens for prompt in prompts], generator.pad_token)
    ids, mask = (pad_more(t, (0, generator.max_length - t.shape[1])) for t in (ids, mask))
    log_probs = generator.model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    chosen = log_probs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    starts = torch.tensor([[prompt.answer_start] for prompt in prompts])
    scored = (torch.arange(1, ids.shape[1]) >= starts) & mask[:, 1:].bool()
    return unflatten(chosen[scored], scored.sum(1))


def plain_candidates(generator: Any, prompts: Any, candidates: int) -> Any:
    scores = plain_scores(generator, prompts)
    return scores.view(-1, candidates, scores.shape[1])


def measure(way: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        step = step_of(way, folder)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = resident("VmRSS")
        seconds = []
        for _ in range(STEPS):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:]), "mb": resident("VmHWM") - before}


def resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    rows = []
    for objective in ("rag_token", "dalm"):
        plain = child(Path(__file__), f"{objective} plain")
        for way in (objective, f"{objective} checkpointing"):
            ours = child(Path(__file__), way)
            cells = []
            for key, shown in (("mb", "{:.0f}"), ("seconds", "{:.2f}")):
                cells += [shown.format(ours[key]), shown.format(plain[key])]
                cells.append(f"{ours[key] / plain[key]:.2f}")
            rows.append(row(way, *cells))
    heading = ("step", "MB", "plain MB", "ratio", "s", "plain s", "ratio")
    table("Joint training, one step: peak memory above the weights, and time", heading, rows)


if __name__ == "__main__":
    main()
