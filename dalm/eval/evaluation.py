"""What both evaluations share: models by their settings, hits, results and where they go."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dalm.datasets.tables import read_passages
from dalm.errors import UserError
from dalm.eval import report
from dalm.eval.measures import measure_retrieval
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import Placement, check_model_name, place
from dalm.models.retriever import Kind, Retriever, load_retriever
from dalm.records import Example, Hit, Passage
from dalm.retrieval.search import build_index, find
from dalm.settings import EvalRag, EvalRetriever, check, check_output_dir

logger = logging.getLogger(__name__)

CUTOFFS = (1, 5, 10, 20, 50, 100)


def start(settings: EvalRetriever) -> Path:
    """Refuse what can't work, and return the folder that the results go to.

    Raises:
        UserError: a value out of range, no such model, or results in the folder already.
    """
    check(settings)
    _check_models(settings)
    if settings.output_dir is None:
        numbers = (Path(f"evaluation-{number}") for number in range(1, 100_000))
        return next(folder for folder in numbers if not folder.exists())
    folder = Path(settings.output_dir)
    check_output_dir(folder)
    if (folder / "results.json").exists() and not settings.overwrite_output_dir:
        raise UserError(
            f"--output-dir {folder} holds results; name another folder, or add "
            "--overwrite-output-dir"
        )
    return folder


def _check_models(settings: EvalRetriever) -> None:
    """Refuse models that are plainly not there, before the first one loads."""
    retrievers = (settings.retriever_name_or_path, settings.baseline)
    generators: tuple[str | None, ...] = ()
    if isinstance(settings, EvalRag):
        generators = (settings.generator_name_or_path, settings.baseline_generator)
    for role, names in (("retriever", retrievers), ("generator", generators)):
        for name in names:
            if name is not None:
                check_model_name(name, role)


def knowledge_base(examples: Iterable[Example], settings: EvalRetriever) -> list[Passage]:
    """Return the distinct passages to search: the questions' own and those of `--passages`."""
    found = {passage.id: passage for passage in map(_passage, examples)}
    for source in settings.passages or ():
        for passage in read_passages(source, settings):
            found.setdefault(passage.id, passage)
    logger.info("searching  %d passages", len(found))
    return list(found.values())


def _passage(example: Example) -> Passage:
    assert example.passage is not None
    return example.passage


def retriever_of(
    name: str,
    settings: EvalRetriever,
    *,
    adapter: str | None = None,
    lengths: Mapping[Kind, int | None] | None = None,
) -> Retriever:
    """Load a retriever with the lengths and prompts of its training, unless told otherwise."""
    return load_retriever(
        name,
        place(settings.device, settings.precision),
        adapter=adapter,
        lengths=lengths or {"query": settings.query_max_len, "passage": settings.passage_max_len},
        prompts={"query": settings.query_prompt, "passage": settings.passage_prompt},
        is_autoregressive=settings.retriever_is_autoregressive,
    )


def baseline_of(tuned: Retriever, settings: EvalRetriever) -> Retriever:
    """Load the baseline; it sees as much of a text as the tuned retriever does."""
    assert settings.baseline is not None
    lengths = {kind: side.max_len for kind, side in tuned.sides.items()}
    return retriever_of(settings.baseline, settings, lengths=lengths)


def generator_of(settings: EvalRag) -> Generator | None:
    """Load the generator if it is to be evaluated, as it was trained."""
    if not settings.evaluate_generator:
        logger.info("the retriever alone is measured; --evaluate-generator adds the answers")
        return None
    return load_generator(
        settings.generator_name_or_path,
        _reading(settings),
        adapter=settings.generator_peft_model_path,
        max_length=settings.generator_max_len,
    )


def baseline_generator_of(tuned: Generator, settings: EvalRag) -> Generator:
    """Load the baseline's generator; its prompts are as long as those of the tuned one."""
    assert settings.baseline_generator is not None
    return load_generator(
        settings.baseline_generator, _reading(settings), max_length=tuned.max_length
    )


def _reading(settings: EvalRag) -> Placement:
    return replace(place(settings.device, settings.precision), frozen=True)


def name_of(settings: EvalRag) -> str:
    """Return what the evaluated system is called in the results."""
    retriever = settings.retriever_peft_model_path or settings.retriever_name_or_path
    generator = settings.generator_peft_model_path or settings.generator_name_or_path
    return f"{retriever} + {generator}" if settings.evaluate_generator else retriever


def baseline_name_of(settings: EvalRag) -> str:
    """Return what the baseline is called in the results."""
    retriever = settings.baseline or settings.retriever_name_or_path
    generator = settings.baseline_generator or settings.generator_name_or_path
    return f"{retriever} + {generator}" if settings.evaluate_generator else retriever


def hits_of(
    retriever: Retriever,
    examples: Sequence[Example],
    passages: Sequence[Passage],
    settings: EvalRetriever,
) -> list[list[Hit]]:
    """Return the best passages of every question."""
    index = build_index(retriever, passages, settings.index)
    return find(retriever, [example.query for example in examples], index, settings.top_k)


def results_of(
    name: str,
    examples: Sequence[Example],
    hits: Sequence[Sequence[Hit]],
    settings: EvalRetriever | EvalRag,
    *,
    answers: Sequence[str] | None = None,
    answer_measures: dict[str, list[float]] | None = None,
) -> report.Results:
    """Measure the hits, and put them together with what is known of the answers."""
    gold = [_passage(example) for example in examples]
    cutoffs = sorted({k for k in CUTOFFS if k < settings.top_k} | {settings.top_k})
    measures = measure_retrieval(hits, [{passage.id} for passage in gold], cutoffs)
    written = answers if answers is not None else [None] * len(examples)
    judged = [
        report.Judged(
            query=example.query,
            gold=(passage,),
            hits=tuple(found),
            answer=answer,
            references=(example.answer,) if example.answer else (),
        )
        for example, passage, found, answer in zip(examples, gold, hits, written, strict=True)
    ]
    clusters = [passage.title or passage.id for passage in gold]
    return report.Results(
        name=name, queries=judged, measures=measures | (answer_measures or {}), clusters=clusters
    )


def finish(
    folder: Path, results: report.Results, baseline: report.Results | None, seed: int
) -> None:
    """Print the table, and say what was written where."""
    logger.info("")
    lines = report.write(folder, results, baseline, seed=seed)
    report.show(lines, results.name, baseline.name if baseline else None)
    logger.info("results    %s", folder / "results.json")
    logger.info("queries    %s", folder / "queries.jsonl")
