"""Adapt a small retriever and generator to the toy domain, and answer questions with them."""

import csv
import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dalm.config import Adapt, Columns, Demo
from dalm.display import show

if TYPE_CHECKING:
    from dalm.models.generator import Generator
    from dalm.records import Example
    from dalm.retrieval.hybrid import IndexSearcher

DATA = Path(__file__).parents[1] / "datasets"
TRAIN, TEST = DATA / "toy_data_train.csv", DATA / "toy_data_test.csv"
MAX_NEW_TOKENS = 16
HELD_OUT = 0.11
"""Of 144 places, 16."""
PLACE = re.compile(r"\b(?:[Aa]t|of) ([A-Z]\w+)")
# Untrained weights need higher learning rates and more steps than pretrained ones.
UNTRAINED: dict[str, dict[str, Any]] = {
    "generator": {
        "num_candidates": 1,
        "num_train_epochs": 5,
        "per_device_train_batch_size": 32,
        "learning_rate": 1e-3,
        "generator_learning_rate": 1.5e-3,
        "lr_scheduler_type": "cosine",
        "num_warmup_steps": 40,
        "logit_scale": 20.0,
        "use_peft": None,
        "negatives_column": "",
    },
    "evaluate-human": {"max_new_tokens": MAX_NEW_TOKENS},
}


def demo(settings: Annotated[Demo, Parameter(name="*")] = Demo()) -> None:  # noqa: B008
    """Adapt a small pair to an invented domain and ask it questions, in minutes, with no download.

    The domain has its own jargon, which no model has seen. Its documents and questions are written
    as files, retriever and generator are made from its training texts, and `dalm adapt` does the
    rest; questions on documents that the pair hasn't met are answered from the index.
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
            _adapt_and_ask(settings)
        finally:
            torch.set_num_threads(threads)


def _adapt_and_ask(settings: Demo) -> None:
    from dalm.adaptation import stage_runs
    from dalm.adaptation.system import System
    from dalm.commands.adapt import adapt

    start, folder = time.perf_counter(), Path(settings.output_dir)
    write_documents(folder)
    retriever, generator = untrained_pair(settings)
    options = _options(settings, retriever, generator)
    adapt([str(folder / "documents")], options)
    system = System([str(folder / "documents")], options, {})
    served = system.pairs.served()
    assert served is not None
    pair = _load(options.output_dir, served.generator, settings)
    _print_measures(*pair, _held_out(options))
    _print_answers(*pair, _held_out(options))
    show(f"\n{(time.perf_counter() - start) / 60:.1f} minutes; the system is in {folder}. Ask it:")
    show(shlex.join(["dalm", *map(str, stage_runs.serving(system, served))]))


def _options(settings: Demo, retriever: str, generator: str) -> Adapt:
    folder = Path(settings.output_dir)
    is_untrained = settings.retriever is None and settings.generator is None
    return Adapt(
        retriever_name_or_path=retriever,
        generator_name_or_path=generator,
        output_dir=str(folder / "system"),
        questions=str(folder / "questions.csv"),
        backend="none",
        recipe="joint" if is_untrained else "independent",
        stage_options=UNTRAINED if is_untrained else None,
        precision="fp32" if is_untrained else "auto",
        test_share=HELD_OUT,
        seed=settings.seed,
        trust_remote_code=settings.trust_remote_code,
    )


def write_documents(folder: Path) -> None:
    """Write the toy domain as files: a Markdown file for each place, and a table of questions."""
    from dalm import artifacts

    places: dict[str, dict[str, str]] = {}
    rows = [row for table in (TRAIN, TEST) for row in _rows(table)]
    for row in rows:
        found = PLACE.search(row["Query"])
        place = found[1] if found else row["Passage"].split()[0]
        title = row.get("Title") or place
        places.setdefault(place, {}).setdefault(row["Passage"], title)
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for place, sheets in places.items():
        sections = (f"## {title}\n\n{text}" for text, title in sheets.items())
        name = re.sub(r"\W+", "-", place)
        text = "\n\n".join([f"# {place}", *sections])
        artifacts.write_text(folder / "documents" / f"{name}.md", f"{text}\n")
    with artifacts.write_file(folder / "questions.csv") as out:
        writer = csv.DictWriter(out, ["Query", "Answer", "Passage"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


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


def _held_out(options: Adapt) -> "list[Example]":
    from dalm.adaptation.question_tables import test_table
    from dalm.io.examples import read_examples

    table = test_table(Path(options.output_dir) / "tables", "human")
    return read_examples(table, Columns(), needs={"passage", "answer"})


def _load(system: str, generator: str, settings: Demo) -> "tuple[IndexSearcher, Generator]":
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.retrieval.hybrid import searcher_of
    from dalm.retrieval.index_folder import IndexFolder

    placement = place("auto", "auto", trust_remote_code=settings.trust_remote_code)
    searcher = searcher_of(IndexFolder(f"{system}/index").current(), placement, "hybrid", None)
    return searcher, load_generator(generator, placement)


def _print_measures(
    searcher: "IndexSearcher", generator: "Generator", examples: "list[Example]"
) -> None:
    """Say how often the index finds the right passage first, and how often the answer is right."""
    from dalm.eval.answer_metrics import exact_match
    from dalm.rag.pipeline import answer

    queries = [example.query for example in examples]
    hits = searcher.search(queries, 10)
    gold = [example.passage.id for example in examples if example.passage]
    first = sum(found[0].passage.id == right for found, right in zip(hits, gold, strict=True))
    answers = answer(generator, queries, hits, reader_passages=1, max_new_tokens=MAX_NEW_TOKENS)
    pairs = zip(answers, examples, strict=True)
    right = sum(exact_match(given.text, [each.answer or ""]) for given, each in pairs)
    count = len(examples)
    show(
        f"\n{count} questions on documents that were held out: the index finds the passage first "
        f"for {first / count:.3f}, the answer is right for {right / count:.3f}"
    )


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
