"""Measure what training rows cost beside the tokenizers library alone on the same texts.

    python benchmarks/tokenizing.py [--quick]

10,000 rows of COVID-QA and MedQuAD: `Rows` and `SftRows`, from examples that are read to rows that
batches are made of, what is told of cut texts included, with all-MiniLM-L6-v2 and the generator in
DALM_BENCH_GENERATOR (by default one of 32,000 byte pairs, trained on the same texts). Beside it the
library's `encode_batch` of the same texts, a thousand at a time: distinct passages, all questions
and answers, cut for the retriever, whole for the generator, its result thrown away. Beside both
transformers' call, as lists. CPU seconds of one thread, in turns in one process; memory by one
process each: its peak above what it held before (Linux).
"""

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

from common import child, data, forget_peak, minilm, resident, row, table

QUICK = "--quick" in sys.argv
COUNT, TURNS, PART = (1_000 if QUICK else 10_000), (1 if QUICK else 3), 1_024
TABLES = ("covidqa_train.csv", "covidqa_test.csv", "medquad_train.csv", "medquad_test.csv")
TRAININGS = ("retriever-only", "generator-only", "joint")
WAYS = ("dalm", "library", "transformers")
Texts = tuple[Any, Sequence[str], int | None]
"""A tokenizer, texts, and the length to cut them to with the tokens that begin and end them."""


def generator_folder(texts: list[str]) -> str:
    """Return the folder that DALM_BENCH_GENERATOR names, or one with a tokenizer of the texts."""
    if (named := os.environ.get("DALM_BENCH_GENERATOR")) is not None:
        return named
    from dalm.models.tiny import build_generator

    folder = Path(__file__).parents[1] / "outputs" / "benchmarks" / "tokenizing"
    return str(build_generator(texts, folder, vocabulary=32_000))


def work() -> tuple[dict[str, dict[str, Callable[[], Any]]], str]:
    """Return what each way does for each training, and the generator's name."""
    from dalm.config import RagE2E
    from dalm.io.examples import read_examples
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.training.data.batches import Rows, distinct_passages
    from dalm.training.data.sft_rows import SftRows

    settings = RagE2E(output_dir="unused")
    read = (read_examples(data(name), settings, needs={"passage", "answer"}) for name in TABLES)
    examples = [example for each in read for example in each][:COUNT]
    passages = [passage.text for passage in distinct_passages(examples)[0]]
    queries = [example.query for example in examples]
    answers = [example.answer or "" for example in examples]
    placement = place("cpu", "fp32")
    retriever = load_retriever(minilm(), placement)
    folder = generator_folder([*passages, *queries, *answers])
    generator = load_generator(folder, placement)
    most = retriever.sides["passage"].max_len, retriever.sides["query"].max_len
    encoder, decoder = retriever.tokenizer("passage"), generator.tokenizer
    of_retriever: list[Texts] = [(encoder, passages, most[0]), (encoder, queries, most[1])]
    of_generator: list[Texts] = [(decoder, each, None) for each in (passages, queries, answers)]
    texts = (of_retriever, of_generator, [*of_retriever, *of_generator])
    rows = (
        lambda: Rows(examples, retriever).tell_cut(),
        lambda: SftRows(examples, generator).tell_cut(),
        lambda: Rows(examples, retriever, generator).tell_cut(),
    )
    ways = {
        training: {
            "dalm": rows[n],
            "library": lambda n=n: [by_library(*each) for each in texts[n]],
            "transformers": lambda n=n: [by_transformers(*each) for each in texts[n]],
        }
        for n, training in enumerate(TRAININGS)
    }
    return ways, Path(folder).name


def parts(texts: Sequence[str]) -> list[list[str]]:
    return [list(texts[start : start + PART]) for start in range(0, len(texts), PART)]


def by_library(tokenizer: Any, texts: Sequence[str], most: int | None) -> None:
    library = tokenizer.backend_tokenizer
    library.no_padding()
    if most is None:
        library.no_truncation()
    else:
        library.enable_truncation(most)
    for part in parts(texts):
        library.encode_batch(part, add_special_tokens=most is not None)


def by_transformers(tokenizer: Any, texts: Sequence[str], most: int | None) -> None:
    cut = {} if most is None else {"truncation": True, "max_length": most}
    for part in parts(texts):
        tokenizer(part, add_special_tokens=most is not None, verbose=False, **cut)


def cpu_seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    logging.disable(logging.WARNING)
    words = [word for word in sys.argv[1:] if word != "--quick"]
    ways, generator = work()
    if words:  # the memory of one way
        forget_peak()
        before = resident("VmRSS")
        ways[words[0]][words[1]]()
        print(json.dumps(resident("VmHWM") - before))
        return
    rows = []
    for training in TRAININGS:
        seen = [{way: cpu_seconds(ways[training][way]) for way in WAYS} for _ in range(TURNS + 1)]
        seen = seen[1:]  # the first warms up
        middle = [statistics.median(turn[way] for turn in seen) for way in WAYS]
        ratio = statistics.median(turn["dalm"] / turn["library"] for turn in seen)
        quick = ["--quick"] * QUICK
        memory = [child(Path(__file__), training, way, *quick) for way in WAYS]
        cells = [f"{seconds:.2f}" for seconds in middle] + [f"{ratio:.2f}"]
        rows.append(row(training, *cells, *(f"{mb:.0f}" for mb in memory)))
    heading = ("training", *(f"{way}, CPU s" for way in WAYS), "dalm : library")
    heading += tuple(f"{way}, MB" for way in WAYS)
    title = f"Tokenising {COUNT:,} rows; generator {generator}"
    table("tokenizing", title, heading, rows, trial=QUICK)


if __name__ == "__main__":
    main()
