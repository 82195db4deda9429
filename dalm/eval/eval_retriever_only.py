"""Evaluate a retriever: questions with their passages in, measures out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.settings import EvalRetriever


def eval_retriever(
    dataset_path: Annotated[str, Parameter(alias="--test-dataset-csv-path")],
    settings: Annotated[EvalRetriever, Parameter(name="*")],
) -> None:
    """Measure how well a retriever finds the passages of a table's questions.

    Every distinct passage of the table, and of `--passages`, is searched.

    Parameters
    ----------
    dataset_path
        Table with questions and passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.datasets.tables import read_examples
    from dalm.eval import evaluation
    from dalm.eval.report import Results
    from dalm.models.retriever import Retriever

    folder = evaluation.start(settings)
    examples = read_examples(dataset_path, settings, needs={"passage"})
    passages = evaluation.knowledge_base(examples, settings)

    def judge(retriever: Retriever, name: str) -> Results:
        hits = evaluation.hits_of(retriever, examples, passages, settings)
        return evaluation.results_of(name, examples, hits, settings)

    adapter = settings.retriever_peft_model_path
    tuned = evaluation.retriever_of(settings.retriever_name_or_path, settings, adapter=adapter)
    results = judge(tuned, adapter or settings.retriever_name_or_path)
    baseline = None
    if settings.baseline:
        baseline = judge(evaluation.baseline_of(tuned, settings), settings.baseline)
    evaluation.finish(folder, results, baseline, settings.seed)


if __name__ == "__main__":
    from dalm.cli import run_door

    run_door(eval_retriever)
