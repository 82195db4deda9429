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
    from dalm.models.loading import place

    folder = evaluation.start(settings)
    placement = place(settings.device, settings.precision)
    evaluation.check_models(settings)
    examples = read_examples(dataset_path, settings, needs={"passage"})
    passages = evaluation.knowledge_base(examples, settings)

    def judge(name: str, adapter: str | None = None) -> Results:
        retriever = evaluation.retriever_of(name, settings, placement, adapter)
        hits = evaluation.hits_of(retriever, examples, passages, settings)
        return evaluation.results_of(adapter or name, examples, hits, settings)

    results = judge(settings.retriever_name_or_path, settings.retriever_peft_model_path)
    baseline = judge(settings.baseline) if settings.baseline else None
    evaluation.finish(folder, results, baseline)


if __name__ == "__main__":
    from dalm.cli import run_door

    run_door(eval_retriever)
