"""Evaluate a retriever on questions whose passages are known."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import EvalRetriever


def eval_retriever(
    dataset_path: Annotated[str, Parameter(alias="--test-dataset-csv-path")],
    settings: Annotated[EvalRetriever, Parameter(name="*")] = EvalRetriever(),  # noqa: B008
) -> None:
    """Evaluate how well a retriever finds the passages of a dataset's questions.

    All distinct passages of the dataset and of `--passages` are searched: by the retriever alone,
    fused with BM25, and with `--reranker` also in the reranker's order.

    Parameters
    ----------
    dataset_path
        Table with questions and passages (csv, tsv, jsonl, parquet, a saved dataset, a hub name),
        or a folder in BEIR's layout: `folder`, `folder:dev`.
    """
    from dalm.eval.evaluation_run import EvaluationRun
    from dalm.eval.results import Results

    with EvaluationRun(settings) as run:
        run.read_datasets(dataset_path)
        name, baseline_name = run.models.names
        retriever = run.models.retriever()
        systems = run.evaluate(name, retriever)
        run.save(systems)
        baselines: list[Results] = []
        if settings.baseline:
            retriever = run.models.baseline_retriever(retriever)
            baselines = run.evaluate(baseline_name, retriever)
        run.finish(systems, baselines)
