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
    from dalm.models.generator import load_generator
    from dalm.models.loading import place
    from dalm.serving.answering import answer

    folder = evaluation.start(settings)
    placement = place(settings.device, settings.precision)
    evaluation.check_models(settings)
    needs: set[Field] = {"passage", "answer"} if settings.evaluate_generator else {"passage"}
    examples = read_examples(dataset_path, settings, needs=needs)
    passages = evaluation.knowledge_base(examples, settings)

    def judge(
        retriever_name: str, generator_name: str, adapters: tuple[str | None, str | None]
    ) -> Results:
        retriever = evaluation.retriever_of(retriever_name, settings, placement, adapters[0])
        hits = evaluation.hits_of(retriever, examples, passages, settings)
        name = f"{adapters[0] or retriever_name} + {adapters[1] or generator_name}"
        if not settings.evaluate_generator:
            return evaluation.results_of(adapters[0] or retriever_name, examples, hits, settings)
        generator = load_generator(
            generator_name, placement, adapter=adapters[1], max_length=settings.generator_max_len
        )
        answered = answer(
            generator,
            [example.query for example in examples],
            hits,
            reader_passages=settings.reader_passages,
            max_new_tokens=settings.max_new_tokens,
        )
        texts = [each.text for each in answered]
        measured = measure_answers(texts, [[e.answer or ""] for e in examples])
        return evaluation.results_of(
            name, examples, hits, settings, answers=texts, answer_measures=measured
        )

    results = judge(
        settings.retriever_name_or_path,
        settings.generator_name_or_path,
        (settings.retriever_peft_model_path, settings.generator_peft_model_path),
    )
    baseline = None
    if settings.baseline or settings.baseline_generator:
        baseline = judge(
            settings.baseline or settings.retriever_name_or_path,
            settings.baseline_generator or settings.generator_name_or_path,
            (
                None if settings.baseline else settings.retriever_peft_model_path,
                None if settings.baseline_generator else settings.generator_peft_model_path,
            ),
        )
    evaluation.finish(folder, results, baseline)


if __name__ == "__main__":
    from dalm.cli import run_door

    run_door(eval_rag)
