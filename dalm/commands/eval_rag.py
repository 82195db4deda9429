"""Evaluate a retriever, and the answers of a generator from the passages it finds."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import EvalRag


def eval_rag(
    dataset_path: Annotated[str, Parameter(alias="--test-dataset-csv-path")],
    settings: Annotated[EvalRag, Parameter(name="*")] = EvalRag(),  # noqa: B008
) -> None:
    """Evaluate a retriever, and a generator's answers from the retrieved passages.

    The prompts are those of training. The generator reads what the retriever alone finds; with
    `--reranker` the best passages in the reranker's order, as in `dalm ask --reranker`.

    Parameters
    ----------
    dataset_path
        Table with questions, passages and answers: csv, tsv, jsonl, parquet, a saved dataset, a hub
        name.
    """
    from dalm.eval.evaluation_run import EvaluationRun
    from dalm.eval.judge.judge import judge_answers, load_judge
    from dalm.eval.results import BASELINE, Results

    with EvaluationRun(settings) as run:
        judge = load_judge(settings, run.output)
        run.read_datasets(dataset_path)
        name, baseline_name = run.models.names
        retriever, reader = run.models.retriever(), run.models.reader()
        systems = run.evaluate(name, retriever, reader)
        run.save(systems)
        baselines: list[Results] = []
        if settings.baseline or settings.baseline_generator:
            if settings.baseline:
                retriever = run.models.baseline_retriever(retriever)
            if settings.baseline_generator and reader is not None:
                reader = run.models.baseline_reader(reader)
            baselines = run.evaluate(baseline_name, retriever, reader)
            run.save(baselines, BASELINE)
        if judge is not None:
            systems, baselines = judge_answers(judge, systems, baselines, run.watch)
        run.finish(systems, baselines)
