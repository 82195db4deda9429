"""The whole way on the toy domain: tables in; a tuned pair, figures and answers out."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Columns, Demo, RagE2E

if TYPE_CHECKING:
    from dalm.models.generator import Generator
    from dalm.models.retriever import Retriever
    from dalm.records import Example
    from dalm.retrieval.exact import Index

DATA = Path(__file__).parent / "datasets"
TRAIN, TEST = DATA / "toy_data_train.csv", DATA / "toy_data_test.csv"
NEW_TOKENS = 16


def demo(settings: Annotated[Demo, Parameter(name="*")] = Demo()) -> None:  # noqa: B008
    """Build, train and evaluate a small pair on an invented domain: no download, minutes.

    The domain has its own jargon, which no model has seen. Retriever and generator are made from
    its training texts, trained jointly, and evaluated on documents that they haven't met.
    """
    from dalm.io.examples import read_examples

    start = time.perf_counter()
    folder = Path(settings.output_dir)
    retriever, generator = _models(settings, folder)
    examples = read_examples(TEST, Columns(), needs={"passage", "answer"})
    before = _measure(retriever, generator, examples)
    _train(retriever, generator, settings)
    tuned = folder / "run"
    after = _measure(str(tuned / "retriever"), str(tuned / "generator"), examples)
    _show(before, after, examples)
    _answer(str(tuned / "retriever"), str(tuned / "generator"), examples)
    print(
        f"\n{(time.perf_counter() - start) / 60:.1f} minutes. The tuned pair is in {tuned}; next:"
    )
    print(f"dalm eval-rag {TEST} --retriever-name-or-path {tuned}/retriever ", end="")
    print(f"--generator-name-or-path {tuned}/generator --evaluate-generator")


def _models(settings: Demo, folder: Path) -> tuple[str, str]:
    """Return the models to tune; the small ones are made from the training texts."""
    from dalm.io.examples import read_examples
    from dalm.models.tiny import build_encoder, build_generator
    from dalm.prompts import MARKS

    rows = read_examples(TRAIN, Columns(), needs={"passage", "answer"})
    passages = list({e.passage.text: None for e in rows if e.passage})
    queries, answers = [e.query for e in rows], [e.answer or "" for e in rows]
    retriever = settings.retriever or build_encoder(
        [*passages, *queries], folder / "encoder", seed=settings.seed
    )
    generator = settings.generator or build_generator(
        [*passages, *queries, *answers, *MARKS * len(rows)], folder / "decoder", seed=settings.seed
    )
    return str(retriever), str(generator)


def _train(retriever: str, generator: str, settings: Demo) -> None:
    from dalm.commands.train_rag import train_rag_e2e

    options = RagE2E(
        output_dir=f"{settings.output_dir}/run", overwrite_output_dir=True, seed=settings.seed
    )
    if settings.retriever is None and settings.generator is None:
        # Weights from nothing want higher rates and more steps than pretrained ones.
        options = replace(
            options,
            num_train_epochs=8,
            learning_rate=1e-3,
            generator_learning_rate=1.5e-3,
            lr_scheduler_type="cosine",
            num_warmup_steps=40,
            logit_scale=20.0,
            num_candidates=1,
            precision="fp32",
        )
    train_rag_e2e(str(TRAIN), retriever, generator, options)


def _measure(retriever_name: str, generator_name: str, examples: "list[Example]") -> list[float]:
    """Return what `_show` shows: three measures of the retriever, three of the answers."""
    from dalm.eval.answer_metrics import exact_match
    from dalm.eval.metric import means
    from dalm.eval.retrieval_metrics import measure_retrieval
    from dalm.rag.pipeline import answer
    from dalm.records import Hit
    from dalm.retrieval.base import find

    retriever, generator, index = _load(retriever_name, generator_name, examples)
    queries = [example.query for example in examples]
    gold = [example.passage for example in examples if example.passage]
    hits = find(retriever, queries, index, 10)
    found = means(
        measure_retrieval(hits, [{passage.id} for passage in gold], ["R@1", "R@10", "RR@10"])
    )
    exact = []
    none: list[list[Hit]] = [[] for _ in gold]
    for read in (hits, [[Hit(passage, 1.0)] for passage in gold], none):
        answers = answer(generator, queries, read, reader_passages=1, max_new_tokens=NEW_TOKENS)
        pairs = zip(answers, examples, strict=True)
        right = [exact_match(a.text, [e.answer or ""]) for a, e in pairs]
        exact.append(sum(right) / len(right))
    return [found["R@1"], found["R@10"], found["RR@10"], *exact]


def _load(
    retriever_name: str, generator_name: str, examples: "list[Example]"
) -> "tuple[Retriever, Generator, Index]":
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.base import build_index

    placement = place("auto", "auto")
    retriever = load_retriever(retriever_name, placement)
    passages = [example.passage for example in examples if example.passage]
    index = build_index(retriever, passages)
    return retriever, load_generator(generator_name, placement), index


ROWS = (
    "recall@1",
    "recall@10",
    "MRR@10",
    "exact match, passage found",
    "exact match, gold passage",
    "exact match, no passage",
)


def _show(before: list[float], after: list[float], examples: "list[Example]") -> None:
    from rich.console import Console
    from rich.table import Table

    passages = {example.passage.id for example in examples if example.passage}
    title = f"{len(examples)} questions on {len(passages)} held-out passages"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("measure")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name, old, new in zip(ROWS, before, after, strict=True):
        table.add_row(name, f"{old:.3f}", f"{new:.3f}")
    print()
    Console().print(table)


def _answer(retriever_name: str, generator_name: str, examples: "list[Example]") -> None:
    """Answer three questions, the first of three documents, and show what was read."""
    from dalm.rag.pipeline import answer
    from dalm.retrieval.base import find

    retriever, generator, index = _load(retriever_name, generator_name, examples)
    firsts = {e.passage.id: e for e in reversed(examples) if e.passage}
    asked = list(reversed(firsts.values()))[:3]
    queries = [example.query for example in asked]
    hits = find(retriever, queries, index, 1)
    answers = answer(generator, queries, hits, reader_passages=1, max_new_tokens=NEW_TOKENS)
    for example, given in zip(asked, answers, strict=True):
        print(f"\nquestion  {example.query}")
        print(f"passage   {given.hits[0].passage.text}")
        print(f"answer    {given.text}   (expected: {example.answer})")
