"""Measure the answers of `dalm eval-rag` with bounds and a baseline: each distinct prompt once.

The same answers and likelihoods context by context, each prompt read for its answer and again for
its reference, are the comparison. The generator is that of joint_training.py (random weights), or
`--generator`'s. The system finds with all-MiniLM-L6-v2, the baseline with BM25, in COVID-QA.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from common import data, minilm, row, table
from joint_training import build_models

from dalm.config import EvalRag
from dalm.eval.answer_evaluation import _contexts, evaluate_answers
from dalm.eval.cached_reader import CachedReader
from dalm.eval.results import Results
from dalm.io.evaluation_set import EvaluationSet, read_evaluation_set
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.progress import Stopwatch
from dalm.rag.pipeline import LocalReader, prompts_of
from dalm.retrieval.base import DenseSearcher
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.exact import ExactIndex
from dalm.training.scoring import mean_log_probs

SEED, NEW_TOKENS, QUESTIONS = 42, 32, 60


def found_by(dataset: EvaluationSet) -> list[Results]:
    """Return what the evaluated system, all-MiniLM-L6-v2, and the baseline, BM25, find."""
    passages = list(dataset.passages.values())
    queries = [query.query for query in dataset.queries]
    retriever = load_retriever(minilm(), place("cpu", "fp32"))
    vectors = retriever.encode_passages([each.text for each in passages])
    searchers = {
        "dense": DenseSearcher(retriever, ExactIndex(passages, vectors)),
        "BM25": BM25(passages),
    }
    return [
        Results(
            name=name,
            queries=dataset.queries,
            hits=searcher.search(queries, 10),
            measures={},
        )
        for name, searcher in searchers.items()
    ]


def in_every_context(
    reader: LocalReader, dataset: EvaluationSet, systems: list[Results]
) -> tuple[list[Any], int]:
    """Answer and score every context of every system by itself; count the prompts read.

    The likelihood is that of a question's likeliest reference, as in the evaluation.
    """
    generator, measured, read = reader.generator, [], 0
    for results in systems:
        contexts = _contexts(dataset, results, reader.reader_passages, SEED)
        for context in contexts.values():
            texts = [query.query for query in dataset.queries]
            answers = [each.text for each in reader.answer(texts, context)]
            rows = [
                (i, each) for i, query in enumerate(dataset.queries) for each in query.references
            ]
            read_by = [[values[i] for i, _ in rows] for values in (texts, context)]
            references = [reference for _, reference in rows]
            prompts = prompts_of(generator, *read_by, generator.max_length, references)
            asked = [
                (i, each) for (i, _), each in zip(rows, prompts, strict=True) if each is not None
            ]
            nll: dict[int, float] = {}
            for places, means in mean_log_probs(generator, [each for _, each in asked]):
                for place_, mean in zip(places, means, strict=True):
                    query = asked[place_][0]
                    nll[query] = min(-mean, nll.get(query, -mean))
            measured.append((answers, [nll[query] for query in sorted(nll)]))
            read += len(answers) + len(asked)
    return measured, read


def once(
    reader: LocalReader, dataset: EvaluationSet, systems: list[Results]
) -> tuple[list[Any], int]:
    """Evaluate as the command does; count the prompts read."""
    cached = CachedReader(reader.generator, reader.reader_passages, reader.max_new_tokens)
    measured = []
    for results in systems:
        done = evaluate_answers(cached, results, dataset, Stopwatch(), SEED)
        for name, answers in done.answers.items():
            nll = done.measures["NLL" if name == "found" else f"NLL[{name}]"]
            measured.append((answers, [value for value in nll if value is not None]))
    return measured, cached.prompts_read


def generator_of(folder: str | None, dataset: EvaluationSet) -> Generator:
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            build_models([each.text for each in dataset.passages.values()], made)
        return load_generator(folder or made, place("cpu", "fp32"), max_length=512)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--generator", help="folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    whole = read_evaluation_set(data("covidqa_test.csv"), EvalRag(), needs={"answer"})
    dataset = replace(whole, queries=whole.queries[: options.questions])
    systems = found_by(dataset)
    reader = LocalReader(generator_of(options.generator, dataset), 1, NEW_TOKENS)
    works = {"in every context, twice": in_every_context, "once": once}
    seconds, found, read = {}, {}, {}
    for name, work in works.items():
        start = time.process_time()
        found[name], read[name] = work(reader, dataset, systems)
        seconds[name] = time.process_time() - start
    pairs = list(zip(*found.values(), strict=True))
    texts = [pair for one, other in pairs for pair in zip(one[0], other[0], strict=True)]
    values = [pair for one, other in pairs for pair in zip(one[1], other[1], strict=True)]
    same, apart = sum(a == b for a, b in texts), max(abs(a - b) for a, b in values)
    plain = seconds["in every context, twice"]
    rows = [
        row(name, read[name], f"{seconds[name]:.1f}", f"{plain / seconds[name]:.2f}")
        for name in works
    ]
    title = f"{len(dataset.queries)} questions, four contexts, two systems; {same} of {len(texts)}"
    title += f" answers are the same, NLL within {apart:.0e} nats"
    heading = ("each prompt", "readings", "CPU s", "times as fast")
    table("rag_evaluation", title, heading, rows, trial=options.questions < QUESTIONS)


if __name__ == "__main__":
    main()
