"""Fine-tune a generator on questions with passages in the prompt."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import GeneratorOnly

if TYPE_CHECKING:
    from dalm.io.examples import Field


def train_generator_only(
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    generator_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    settings: Annotated[GeneratorOnly, Parameter(name="*")],
) -> None:
    """Fine-tune a generator to answer questions from passages.

    With a retriever, its top passages are distractors beside the gold passage, and replace it in a
    fraction of the rows. Only the answer enters the loss.

    Parameters
    ----------
    dataset_path
        Table with questions, passages and answers: csv, tsv, jsonl, parquet, a saved dataset, a hub
        name. With a retriever a row may lack its passage.
    generator_name_or_path
        Causal language model: a folder, or a name on the Hugging Face hub.
    """
    from dalm.config import check
    from dalm.io.examples import read_examples

    check(settings)
    retriever_name = settings.retriever_name_or_path
    needs: "set[Field]" = {"answer"} if retriever_name else {"passage", "answer"}
    examples = read_examples(dataset_path, settings, needs=needs)

    # Importing torch takes seconds; what is wrong with the data has been said by now.
    from dalm.models.loading import check_model_name
    from dalm.next_step import RETRIEVER, after_training
    from dalm.retrieval.base import DenseSearcher
    from dalm.retrieval.embedding_cache import CachedEncoder, folder_of
    from dalm.retrieval.exact import build_index
    from dalm.training import dry_run
    from dalm.training.data.sft_rows import SftRows, search_distractors, searched_passages
    from dalm.training.objectives.sft import SupervisedFineTuning
    from dalm.training.run import TrainingRun

    run = TrainingRun(
        settings, dataset_path=dataset_path, generator_name_or_path=generator_name_or_path
    )
    if retriever_name is not None:
        check_model_name(retriever_name, "retriever")
    cache = folder_of(settings.cache, settings.cache_dir)
    passages = searched_passages(examples, settings)

    found = None
    if retriever_name is not None:
        retriever = run.frozen_retriever(retriever_name)
        encoder = CachedEncoder(retriever, cache)
        if settings.dry_run:
            passages = dry_run.first_passages(passages)
        index = build_index(encoder, passages)
        search = DenseSearcher(retriever, index).search
        found = search_distractors(examples, search, settings.reads())
        del retriever, encoder, index, search  # free the memory for the generator
    generator = run.generator()
    rows = SftRows(
        examples,
        generator,
        reader_passages=settings.reads(),
        gold_probability=settings.gold_share(),
        found=found,
        seed=settings.seed,
    )
    run.fit(
        SupervisedFineTuning.of(rows),
        rows,
        preview=[dry_run.preview_prompt(generator, rows.collate([0])["prompts"][0])],
        next_step=after_training(
            "eval-rag",
            dataset_path,
            settings,
            retriever_name or RETRIEVER,
            *("--generator-name-or-path", run.folder.path / "generator", "--evaluate-generator"),
        ),
    )
