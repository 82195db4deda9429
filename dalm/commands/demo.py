"""Train a small retriever and generator on the toy domain, and answer questions with them."""

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Columns, Demo, Index, RagE2E
from dalm.display import console, show

if TYPE_CHECKING:
    from dalm.models.generator import Generator
    from dalm.records import Example
    from dalm.retrieval.hybrid import IndexSearcher

DATA = Path(__file__).parents[1] / "datasets"
TRAIN, TEST = DATA / "toy_data_train.csv", DATA / "toy_data_test.csv"
MAX_NEW_TOKENS = 16
MEASURES = (
    "recall@1, dense",
    "recall@1, hybrid",
    "MRR@10, dense",
    "MRR@10, hybrid",
    "exact match, passage found",
    "exact match, gold passage",
    "exact match, no passage",
)


def demo(settings: Annotated[Demo, Parameter(name="*")] = Demo()) -> None:  # noqa: B008
    """Train a small pair on an invented domain and ask it questions, in minutes, with no download.

    The domain has its own jargon, which no model has seen. Retriever and generator are made from
    its training texts and trained; an index is built of documents that they haven't met; questions
    on these are answered from it.
    """
    import torch

    from dalm.artifacts import check_folder, claim_folder

    folder = Path(settings.output_dir)
    check_folder("--output-dir", folder)
    threads = torch.get_num_threads()
    with claim_folder(folder, "--output-dir"):
        try:
            if settings.retriever is None and settings.generator is None:
                torch.set_num_threads(1)  # so small that a step on two takes 1.3 times as long
            _train_and_ask(settings)
        finally:
            torch.set_num_threads(threads)


def _train_and_ask(settings: Demo) -> None:
    from dalm.commands.train_rag import train_rag_e2e
    from dalm.io.examples import read_examples

    start = time.perf_counter()
    retriever, generator = untrained_pair(settings)
    examples = read_examples(TEST, Columns(), needs={"passage", "answer"})
    before = _evaluate(*_load(retriever, generator, settings), examples)
    options = _training_options(settings)
    train_rag_e2e(str(TRAIN), retriever, generator, options)
    tuned = Path(options.output_dir)
    retriever, generator = str(tuned / "retriever"), str(tuned / "generator")
    pair = _load(retriever, generator, settings)
    _print_measures(before, _evaluate(*pair, examples), examples)
    _print_answers(*pair, examples)
    show(
        f"\n{(time.perf_counter() - start) / 60:.1f} minutes; the models are in {tuned}. Ask them:"
    )
    show(shlex.join(["dalm", "serve", _index_dir(settings), "--generator-name-or-path", generator]))


def _index_dir(settings: Demo) -> str:
    return f"{settings.output_dir}/index"


def untrained_pair(settings: Demo) -> tuple[str, str]:
    """Return the models to tune; by default small ones built from the training texts."""
    from dalm.io.examples import read_examples
    from dalm.models.tiny import build_encoder, build_generator
    from dalm.prompts import MARKS

    folder = Path(settings.output_dir)
    rows = read_examples(TRAIN, Columns(), needs={"passage", "answer"})
    passages = list({row.passage.text: None for row in rows if row.passage})
    queries, answers = [row.query for row in rows], [row.answer or "" for row in rows]
    retriever = settings.retriever or build_encoder(
        [*passages, *queries], folder / "encoder", seed=settings.seed
    )
    generator = settings.generator or build_generator(
        [*passages, *queries, *answers, *MARKS * len(rows)], folder / "decoder", seed=settings.seed
    )
    return str(retriever), str(generator)


def _training_options(settings: Demo) -> RagE2E:
    options = RagE2E(
        output_dir=f"{settings.output_dir}/run",
        overwrite_output_dir=True,
        seed=settings.seed,
        trust_remote_code=settings.trust_remote_code,
    )
    if settings.retriever is not None or settings.generator is not None:
        return options
    # Untrained weights need higher learning rates and more steps than pretrained ones.
    return replace(
        options,
        num_train_epochs=5,
        learning_rate=1e-3,
        generator_learning_rate=1.5e-3,
        lr_scheduler_type="cosine",
        num_warmup_steps=40,
        logit_scale=20.0,
        num_candidates=1,
        precision="fp32",
    )


def _load(retriever: str, generator: str, settings: Demo) -> "tuple[IndexSearcher, Generator]":
    """Build the index of the held-out documents anew with a retriever, and load its reader."""
    from dalm.commands.index import index
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.retrieval.hybrid import searcher_of
    from dalm.retrieval.index_folder import IndexFolder

    building = Index(
        index_dir=_index_dir(settings),
        retriever_name_or_path=retriever,
        rebuild=True,
        keep=0,
        trust_remote_code=settings.trust_remote_code,
    )
    index([str(TEST)], settings=building)
    placement = place("auto", "auto", trust_remote_code=settings.trust_remote_code)
    searcher = searcher_of(IndexFolder(building.index_dir).current(), placement, "hybrid", None)
    return searcher, load_generator(generator, placement)


def _evaluate(
    searcher: "IndexSearcher", generator: "Generator", examples: "list[Example]"
) -> list[float]:
    """Return the values of `MEASURES`: four of the passages found, three of the answers."""
    from dalm.eval.answer_metrics import exact_match
    from dalm.eval.metrics import means
    from dalm.eval.retrieval_metrics import measure_retrieval
    from dalm.rag.pipeline import answer
    from dalm.records import Hit
    from dalm.retrieval.hybrid import IndexSearcher

    queries = [example.query for example in examples]
    gold = [example.passage for example in examples if example.passage]
    relevant = [{passage.id} for passage in gold]
    dense = IndexSearcher(searcher.encoder, searcher.store, "dense").search(queries, 10)
    hits = searcher.search(queries, 10)
    measures = ["R@1", "RR@10"]
    by_vectors, by_both = (
        means(measure_retrieval(found, relevant, measures)) for found in (dense, hits)
    )
    matches = []
    no_hits: list[list[Hit]] = [[] for _ in gold]
    for read in (hits, [[Hit(passage, 1.0)] for passage in gold], no_hits):
        answers = answer(generator, queries, read, reader_passages=1, max_new_tokens=MAX_NEW_TOKENS)
        pairs = zip(answers, examples, strict=True)
        right = [exact_match(given.text, [each.answer or ""]) for given, each in pairs]
        matches.append(sum(right) / len(right))
    retrieval = [found[measure] for measure in measures for found in (by_vectors, by_both)]
    return [*retrieval, *matches]


def _print_measures(before: list[float], after: list[float], examples: "list[Example]") -> None:
    from rich.table import Table

    passages = {example.passage.id for example in examples if example.passage}
    title = f"{len(examples)} questions on {len(passages)} held-out passages"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("measure")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name, old, new in zip(MEASURES, before, after, strict=True):
        table.add_row(name, f"{old:.3f}", f"{new:.3f}")
    show()
    console().print(table)


def _print_answers(
    searcher: "IndexSearcher", generator: "Generator", examples: "list[Example]"
) -> None:
    """Ask the first question on each of the first three passages; print answer and sources."""
    from dalm.eval.answer_metrics import exact_match
    from dalm.rag.conversation import Conversation
    from dalm.rag.pipeline import LocalReader

    reader = LocalReader(generator, generator.reader_passages, MAX_NEW_TOKENS)
    first_of = {each.passage.id: each for each in reversed(examples) if each.passage}
    for example in list(reversed(first_of.values()))[:3]:
        turn, pieces = Conversation(searcher, reader).ask(example.query)
        for _ in pieces:
            pass
        right = exact_match(turn.answer, [example.answer or ""])
        show(f"\nquestion  {example.query}")
        show(f"answer    {turn.answer}   ({'right' if right else f'wrong: {example.answer}'})")
        for number, hit in enumerate(turn.hits, start=1):
            show(f"[{number}]       {hit.label}: {hit.passage.text}")
