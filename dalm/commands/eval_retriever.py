"""Evaluate a retriever: questions with their passages in, measures out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import EvalRetriever


def eval_retriever(
    dataset_path: Annotated[str, Parameter(alias="--test-dataset-csv-path")],
    settings: Annotated[EvalRetriever, Parameter(name="*")],
) -> None:
    """Measure how well a retriever finds the passages of a dataset's questions.

    Every distinct passage of the dataset, and of `--passages`, is searched.

    Parameters
    ----------
    dataset_path
        Table with questions and passages (csv, tsv, jsonl, parquet, a saved dataset, a hub name),
        or a folder in BEIR's layout: `folder`, `folder:dev`.
    """
    from dalm.eval import evaluation_run
    from dalm.eval.results import Results
    from dalm.eval.summary import finish
    from dalm.eval.timing import Stopwatch

    folder = evaluation_run.start(settings)
    sets = evaluation_run.sets_of(dataset_path, settings, {"passage"})
    watch = Stopwatch()

    adapter = settings.retriever_peft_model_path
    tuned = evaluation_run.retriever_of(settings.retriever_name_or_path, settings, adapter=adapter)
    systems = evaluation_run.searched(
        tuned, sets, settings, evaluation_run.name_of(settings), watch
    )
    evaluation_run.keep(folder, systems)
    baselines: list[Results] = []
    if settings.baseline:
        retriever = evaluation_run.baseline_of(tuned, settings)
        baselines = evaluation_run.searched(retriever, sets, settings, settings.baseline, watch)
    finish(folder, settings, sets=sets, systems=systems, baselines=baselines, watch=watch)
