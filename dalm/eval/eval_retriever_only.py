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
    from dalm.eval import evaluation
    from dalm.eval.finishing import finish
    from dalm.eval.results import Results
    from dalm.eval.stopwatch import Stopwatch

    folder = evaluation.start(settings)
    sets = evaluation.sets_of(dataset_path, settings, {"passage"})
    watch = Stopwatch()

    adapter = settings.retriever_peft_model_path
    tuned = evaluation.retriever_of(settings.retriever_name_or_path, settings, adapter=adapter)
    systems = evaluation.searched(tuned, sets, settings, evaluation.name_of(settings), watch)
    evaluation.keep(folder, systems)
    baselines: list[Results] = []
    if settings.baseline:
        retriever = evaluation.baseline_of(tuned, settings)
        baselines = evaluation.searched(retriever, sets, settings, settings.baseline, watch)
    finish(folder, settings, sets=sets, systems=systems, baselines=baselines, watch=watch)


if __name__ == "__main__":
    from dalm.cli import run_door

    run_door(eval_retriever)
