"""Train and evaluate a small retriever and generator on the toy domain, from tables to answers."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Columns, Demo, RagE2E
from dalm.display import console, show

if TYPE_CHECKING:
    from dalm.models.generator import Generator
    from dalm.records import Example
    from dalm.retrieval.base import DenseSearcher

DATA = Path(__file__).parents[1] / "datasets"
TRAIN, TEST = DATA / "toy_data_train.csv", DATA / "toy_data_test.csv"
MAX_NEW_TOKENS = 16
MEASURES = (
    "recall@1",
    "recall@10",
    "MRR@10",
    "exact match, passage found",
    "exact match, gold passage",
    "exact match, no passage",
)


def demo(settings: Annotated[Demo, Parameter(name="*")] = Demo()) -> None:  # noqa: B008
    """Train and evaluate a small pair on an invented domain, in minutes and without a download.

    The domain has its own jargon, which no model has seen. Retriever and generator are made from
    its training texts, trained jointly, and evaluated on documents that they haven't met.
    """
    from dalm.artifacts import check_folder, claim_folder

    folder = Path(settings.output_dir)
    check_folder("--output-dir", folder)
    with claim_folder(folder, "--output-dir"):
        _train_and_evaluate(settings)


def _train_and_evaluate(settings: Demo) -> None:
    from dalm.commands.train_rag import train_rag_e2e
    from dalm.io.examples import read_examples

    start = time.perf_counter()
    retriever, generator = untrained_pair(settings)
    examples = read_examples(TEST, Columns(), needs={"passage", "answer"})
    trusted = settings.trust_remote_code
    before = _evaluate(*_load(retriever, generator, examples, trusted), examples)
    options = _training_options(settings)
    train_rag_e2e(str(TRAIN), retriever, generator, options)
    tuned = Path(options.output_dir)
    retriever, generator = str(tuned / "retriever"), str(tuned / "generator")
    pair = _load(retriever, generator, examples, trusted)
    _print_measures(before, _evaluate(*pair, examples), examples)
    _print_answers(*pair, examples)
    show(f"\n{(time.perf_counter() - start) / 60:.1f} minutes. The tuned pair is in {tuned}; next:")
    show(
        f"dalm eval-rag {TEST} --retriever-name-or-path {retriever} "
        f"--generator-name-or-path {generator} --evaluate-generator"
    )


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
        num_train_epochs=8,
        learning_rate=1e-3,
        generator_learning_rate=1.5e-3,
        lr_scheduler_type="cosine",
        num_warmup_steps=40,
        logit_scale=20.0,
        num_candidates=1,
        precision="fp32",
    )


def _load(
    retriever_name: str,
    generator_name: str,
    examples: "list[Example]",
    trust_remote_code: bool,
) -> "tuple[DenseSearcher, Generator]":
    """Load a pair, and index the examples' passages."""
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.base import DenseSearcher
    from dalm.retrieval.exact import build_index

    placement = place("auto", "auto", trust_remote_code=trust_remote_code)
    retriever = load_retriever(retriever_name, placement)
    passages = [example.passage for example in examples if example.passage]
    searcher = DenseSearcher(retriever, build_index(retriever, passages))
    return searcher, load_generator(generator_name, placement)


def _evaluate(
    searcher: "DenseSearcher", generator: "Generator", examples: "list[Example]"
) -> list[float]:
    """Return the values of `MEASURES`: three of the retriever, three of the answers."""
    from dalm.eval.answer_metrics import exact_match
    from dalm.eval.metrics import means
    from dalm.eval.retrieval_metrics import measure_retrieval
    from dalm.rag.pipeline import answer
    from dalm.records import Hit

    queries = [example.query for example in examples]
    gold = [example.passage for example in examples if example.passage]
    hits = searcher.search(queries, 10)
    retrieval = means(
        measure_retrieval(hits, [{passage.id} for passage in gold], ["R@1", "R@10", "RR@10"])
    )
    matches = []
    no_hits: list[list[Hit]] = [[] for _ in gold]
    for read in (hits, [[Hit(passage, 1.0)] for passage in gold], no_hits):
        answers = answer(generator, queries, read, reader_passages=1, max_new_tokens=MAX_NEW_TOKENS)
        pairs = zip(answers, examples, strict=True)
        right = [exact_match(given.text, [each.answer or ""]) for given, each in pairs]
        matches.append(sum(right) / len(right))
    return [retrieval["R@1"], retrieval["R@10"], retrieval["RR@10"], *matches]


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
    searcher: "DenseSearcher", generator: "Generator", examples: "list[Example]"
) -> None:
    """Answer the first question of each of the first three passages, and print what was read."""
    from dalm.rag.pipeline import answer

    first_of = {each.passage.id: each for each in reversed(examples) if each.passage}
    examples = list(reversed(first_of.values()))[:3]
    queries = [example.query for example in examples]
    hits = searcher.search(queries, 1)
    answers = answer(generator, queries, hits, reader_passages=1, max_new_tokens=MAX_NEW_TOKENS)
    for example, given in zip(examples, answers, strict=True):
        show(f"\nquestion  {example.query}")
        show(f"passage   {given.hits[0].passage.text}")
        show(f"answer    {given.text}   (expected: {example.answer})")
