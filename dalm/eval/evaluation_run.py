"""What both evaluations share: what is refused, the datasets, models by their settings, names."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dalm import distributed
from dalm.config import EvalRag, EvalRetriever, check, check_output_dir
from dalm.errors import UserError
from dalm.eval.answer_evaluation import read_and_answer
from dalm.eval.quality_gates import check_thresholds, thresholds_of
from dalm.eval.results import BASELINE, SUMMARY, Results, discard, save
from dalm.eval.retrieval_evaluation import measures_of, search
from dalm.eval.timing import Stopwatch
from dalm.io.evaluation_set import EvaluationSet, read_evaluation_set
from dalm.io.examples import Field
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import Placement, check_model_is_there, place
from dalm.models.retriever import Kind, Retriever, load_retriever
from dalm.retrieval.embedding_cache import folder_of

logger = logging.getLogger(__name__)


def start(settings: EvalRetriever) -> Path:
    """Refuse what can't work, and return the folder that the results go to.

    Raises:
        UserError: a value out of range, no such model, or results in the folder already.
    """
    check(settings)
    check_thresholds(
        thresholds_of(settings.fail_below),
        [str(each) for each in measures_of(settings.measures, settings.top_k)],
        answers=isinstance(settings, EvalRag) and settings.evaluate_generator,
    )
    folder_of(settings.cache, settings.cache_dir)
    if settings.report:
        check_report(Path(settings.report), settings.overwrite_output_dir, "--overwrite-output-dir")
    folder = _results_folder(settings)
    _check_models(settings)
    distributed.join()
    return folder


def _results_folder(settings: EvalRetriever) -> Path:
    if settings.output_dir is None:
        numbers = (Path(f"evaluation-{number}") for number in range(1, 100_000))
        return next(folder for folder in numbers if not folder.exists())
    folder = Path(settings.output_dir)
    check_output_dir(folder)
    if (folder / SUMMARY).exists() and not settings.overwrite_output_dir:
        raise UserError(
            f"--output-dir {folder} holds results; name another folder, or add "
            "--overwrite-output-dir"
        )
    return folder


def check_report(file: Path, overwrite: bool, option: str) -> None:
    """Refuse a page that couldn't be written in the end.

    Raises:
        UserError: another ending, a folder, or a file that is there.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report {file}: the page is HTML; name it {file.with_suffix('.html')}")
    if file.is_dir() or (file.exists() and not overwrite):
        raise UserError(f"--report {file} exists; name another file, or add {option}")
    check_output_dir(file.absolute().parent)


def _check_models(settings: EvalRetriever) -> None:
    """Refuse models that can't be had, before the first one loads."""
    retrievers = (settings.retriever_name_or_path, settings.baseline)
    generators: tuple[str | None, ...] = ()
    if isinstance(settings, EvalRag) and settings.evaluate_generator:
        generators = (settings.generator_name_or_path, settings.baseline_generator)
    for role, names in (("retriever", retrievers), ("generator", generators)):
        for name in names:
            if name is not None:
                check_model_is_there(name, role)


def needs_of(settings: EvalRag) -> set[Field]:
    """Return what a row needs: a gold passage unless there is a knowledge base, and an answer."""
    if not settings.evaluate_generator:
        return {"passage"}
    return {"answer"} if settings.passages else {"passage", "answer"}


def sets_of(dataset: str, settings: EvalRetriever, needs: Collection[Field]) -> list[EvaluationSet]:
    """Read what is asked: the dataset, and the guard's if there is one."""
    column = settings.answerable_column if isinstance(settings, EvalRag) else "Answerable"

    def read(source: str, passages: Sequence[str]) -> EvaluationSet:
        return read_evaluation_set(
            source, settings, needs=needs, answerable_column=column, knowledge_base=passages
        )

    found = [read(dataset, settings.passages or ())]
    return [*found, read(settings.guard, ())] if settings.guard else found


def searched(
    retriever: Retriever,
    sets: Iterable[EvaluationSet],
    settings: EvalRetriever,
    name: str,
    watch: Stopwatch,
) -> list[Results]:
    """Return what a retriever finds in each set, under the system's name."""
    found = [
        search(
            retriever,
            asked,
            measures_of(settings.measures, settings.top_k),
            top_k=settings.top_k,
            index=settings.index,
            cache=folder_of(settings.cache, settings.cache_dir),
            watch=watch,
        )
        for asked in sets
    ]
    return [replace(results, name=name) for results in found]


def keep(folder: Path, systems: Sequence[Results]) -> None:
    """Write what the first system found and answered: it outlasts whatever fails behind it.

    An earlier run's baseline goes from the folder, as its other files do.
    """
    if distributed.is_main():
        discard(folder / BASELINE)
        save(folder, systems[0], {})


def answered(
    generator: Generator,
    found: Iterable[Results],
    sets: Iterable[EvaluationSet],
    settings: EvalRag,
    watch: Stopwatch,
) -> list[Results]:
    """Return the results with the answers from what was found; the guard needs no bounds."""
    return [
        read_and_answer(
            generator,
            results,
            asked,
            reader_passages=settings.reader_passages or generator.reader_passages,
            max_new_tokens=settings.max_new_tokens,
            bounds=settings.bounds and place == 0,
            seed=settings.seed,
            watch=watch,
        )
        for place, (results, asked) in enumerate(zip(found, sets, strict=True))
    ]


# Models


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
    generator = load_generator(
        settings.generator_name_or_path,
        _reading(settings),
        adapter=settings.generator_peft_model_path,
        max_length=settings.generator_max_len,
    )
    if settings.citations:
        generator.ask_for_citations()
    return generator


def baseline_generator_of(tuned: Generator, settings: EvalRag) -> Generator:
    """Load the baseline's generator; its prompts are as long as those of the tuned one."""
    assert settings.baseline_generator is not None
    generator = load_generator(
        settings.baseline_generator, _reading(settings), max_length=tuned.max_length
    )
    if settings.citations:
        generator.ask_for_citations()
    return generator


def _reading(settings: EvalRag) -> Placement:
    return replace(place(settings.device, settings.precision), frozen=True)


def name_of(settings: EvalRetriever) -> str:
    """Return what the evaluated system is called in the results."""
    retriever = settings.retriever_peft_model_path or settings.retriever_name_or_path
    if not (isinstance(settings, EvalRag) and settings.evaluate_generator):
        return retriever
    return f"{retriever} + {settings.generator_peft_model_path or settings.generator_name_or_path}"


def baseline_name_of(settings: EvalRetriever) -> str:
    """Return what the baseline is called in the results."""
    retriever = settings.baseline or settings.retriever_name_or_path
    if not (isinstance(settings, EvalRag) and settings.evaluate_generator):
        return retriever
    return f"{retriever} + {settings.baseline_generator or settings.generator_name_or_path}"
