"""Evaluate retriever and generator together: questions with answers in, measures out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import EvalRag


def eval_rag(
    dataset_path: Annotated[str, Parameter(alias="--test-dataset-csv-path")],
    settings: Annotated[EvalRag, Parameter(name="*")],
) -> None:
    """Measure a retriever and the answers of a generator that reads what it finds.

    The prompts are those of the training.

    Parameters
    ----------
    dataset_path
        Table with questions, passages and answers: csv, tsv, jsonl, parquet, a saved dataset, a hub
        name.
    """
    from dalm.eval import evaluation_run
    from dalm.eval.judge.judge import judge_answers, load_judge
    from dalm.eval.results import BASELINE, Results
    from dalm.eval.summary import finish
    from dalm.eval.timing import Stopwatch
    from dalm.models.generator import Generator
    from dalm.models.retriever import Retriever

    folder = evaluation_run.start(settings)
    judge = load_judge(settings, folder)
    sets = evaluation_run.sets_of(dataset_path, settings, evaluation_run.needs_of(settings))
    watch = Stopwatch()

    def measured(retriever: Retriever, generator: Generator | None, name: str) -> list[Results]:
        found = evaluation_run.searched(retriever, sets, settings, name, watch)
        if generator is None:
            return found
        return evaluation_run.answered(generator, found, sets, settings, watch)

    adapter = settings.retriever_peft_model_path
    retriever = evaluation_run.retriever_of(
        settings.retriever_name_or_path, settings, adapter=adapter
    )
    generator = evaluation_run.generator_of(settings)
    systems = measured(retriever, generator, evaluation_run.name_of(settings))
    evaluation_run.keep(folder, systems)
    baselines: list[Results] = []
    if settings.baseline or settings.baseline_generator:
        if settings.baseline:
            retriever = evaluation_run.baseline_of(retriever, settings)
        if settings.baseline_generator and generator is not None:
            generator = evaluation_run.baseline_generator_of(generator, settings)
        baselines = measured(retriever, generator, evaluation_run.baseline_name_of(settings))
        evaluation_run.keep(folder / BASELINE, baselines)
    if judge is not None:
        systems, baselines = judge_answers(judge, systems, baselines, watch)
    finish(folder, settings, sets=sets, systems=systems, baselines=baselines, watch=watch)
