"""Joint training: memory and time of one step, beside the step done the plain way.

Retriever all-MiniLM-L6-v2, generator a Llama of 4 layers of width 256 with a vocabulary of 32,000
(random weights), batch 24, default lengths, fp32. The plain way pads every text to its maximum and
takes the log-softmax of all [B, T, V] logits. For the marginal over K passages it keeps the
activations of all K.
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

BATCH, STEPS, VOCABULARY, ROUNDS = 24, 4, 32_000, 2


def step_of(way: str, folder: str) -> Callable[[], Any]:
    """Return a function that runs one forward and backward pass of a fixed batch."""
    import torch
    import torch.nn.functional as F
    from transformers import LlamaConfig, LlamaForCausalLM

    from dalm.datasets.tables import read_examples
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.models.tiny import build_generator
    from dalm.models.tokens import pad
    from dalm.settings import RagE2E
    from dalm.training import objectives, scoring
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
    marginal, _, candidates = way.removeprefix("plain ").partition(" K=")
    objective = objectives.RagEndToEnd(
        retriever,
        generator,
        marginal=marginal,  # type: ignore[arg-type]
        scale=100.0,
        num_candidates=int(candidates or 1),
        temperature=0.05,
    )
    objective.train()
    batch = Rows(examples, retriever, generator).collate(range(BATCH))

    def ours() -> None:
        objective(batch).total.backward()

    if not way.startswith("plain"):
        return ours
    if marginal != "dalm":

        def keep_all(generator: Any, prompts: Any, candidates: int) -> Any:
            scores = scoring.score_answers(generator, prompts)
            return scores.view(-1, candidates, scores.shape[1])

        objectives.score_candidates = keep_all
        return ours

    longest = {"query": settings.query_max_len, "passage": settings.passage_max_len}

    def padded(side: str) -> dict[str, torch.Tensor]:
        features = batch[side]  # type: ignore[literal-required]
        missing = longest[side] - features["input_ids"].shape[1]
        return {name: F.pad(value, (0, missing)) for name, value in features.items()}

    def plain() -> None:
        queries, passages = retriever.embed(padded("query")), retriever.embed(padded("passage"))
        scores = 100 * queries @ passages.T
        own = torch.arange(BATCH)
        prompts = [objective._prompt(batch["pieces"], i, i) for i in range(BATCH)]
        ids, mask = pad([p.tokens for p in prompts], generator.pad_token)
        missing = settings.generator_max_len - ids.shape[1]
        ids, mask = F.pad(ids, (0, missing)), F.pad(mask, (0, missing))
        logits = generator.model(input_ids=ids, attention_mask=mask).logits
        log_probs = logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        answers = torch.arange(1, ids.shape[1]) >= torch.tensor([[p.answer_start] for p in prompts])
        gold = scores.log_softmax(1).diagonal()[:, None]
        real = mask[:, 1:]
        separate = -((log_probs + answers * gold) * real).sum() / real.sum()
        nce = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
        (nce + separate).backward()

    return plain


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
    pairs = [
        ("dalm", "plain dalm"),
        ("rag_token K=8", "plain rag_token K=8"),
        ("rag_token K=1", "plain rag_token K=1"),
    ]
    rows = []
    for ours, theirs in pairs:
        seen = [(child(Path(__file__), ours), child(Path(__file__), theirs)) for _ in range(ROUNDS)]
        cells = []
        for key in ("mb", "seconds"):
            a, b = (statistics.median(pair[i][key] for pair in seen) for i in (0, 1))
            ratio = statistics.median(pair[0][key] / pair[1][key] for pair in seen)
            shown = "{:.0f}" if key == "mb" else "{:.2f}"
            cells += [shown.format(a), shown.format(b), f"{ratio:.2f}"]
        rows.append(row(ours, *cells))
    heading = ("step", "MB", "plain MB", "ratio", "s", "plain s", "ratio")
    table("Joint training, one step: peak memory above the weights, and time", heading, rows)


if __name__ == "__main__":
    main()
