"""Evaluate retriever and generator together: questions with answers in, measures out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.settings import EvalRag


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
    from dalm.datasets.tables import Field, read_examples
    from dalm.eval import evaluation
    from dalm.eval.answers import measure_answers
    from dalm.eval.report import Results
    from dalm.models.generator import Generator
    from dalm.models.retriever import Retriever
    from dalm.serving.answering import answer

    folder = evaluation.start(settings)
    needs: set[Field] = {"passage", "answer"} if settings.evaluate_generator else {"passage"}
    examples = read_examples(dataset_path, settings, needs=needs)
    passages = evaluation.knowledge_base(examples, settings)

    def judge(retriever: Retriever, generator: Generator | None, name: str) -> Results:
        hits = evaluation.hits_of(retriever, examples, passages, settings)
        if generator is None:
            return evaluation.results_of(name, examples, hits, settings)
        answered = answer(
            generator,
            [example.query for example in examples],
            hits,
            reader_passages=settings.reader_passages or generator.reader_passages,
            max_new_tokens=settings.max_new_tokens,
        )
        texts = [each.text for each in answered]
        measured = measure_answers(texts, [[example.answer or ""] for example in examples])
        return evaluation.results_of(
            name, examples, hits, settings, answers=texts, answer_measures=measured
        )

    retriever = evaluation.retriever_of(
        settings.retriever_name_or_path, settings, adapter=settings.retriever_peft_model_path
    )
    generator = evaluation.generator_of(settings)
    results = judge(retriever, generator, evaluation.name_of(settings))
    baseline = None
    if settings.baseline or settings.baseline_generator:
        if settings.baseline:
            retriever = evaluation.baseline_of(retriever, settings)
        if settings.baseline_generator and generator is not None:
            generator = evaluation.baseline_generator_of(generator, settings)
        baseline = judge(retriever, generator, evaluation.baseline_name_of(settings))
    evaluation.finish(folder, results, baseline, settings.seed)


if __name__ == "__main__":
    from dalm.cli import run_door

    run_door(eval_rag)
