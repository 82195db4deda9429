"""Train a retriever contrastively on questions and passages."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import RetrieverOnly


def train_retriever_only(
    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    settings: Annotated[RetrieverOnly, Parameter(name="*")],
) -> None:
    """Train a retriever contrastively on questions and their passages.

    The other passages of a batch are the negatives (symmetric InfoNCE).

    Parameters
    ----------
    retriever_name_or_path
        Embedding model: a folder, or a name on the Hugging Face hub.
    dataset_path
        Table with questions and passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.next_step import after_training
    from dalm.training import dry_run
    from dalm.training.data.batches import Rows
    from dalm.training.data.usable_rows import check_negatives
    from dalm.training.objectives.contrastive import Contrastive
    from dalm.training.objectives.retriever_objective import vector_options
    from dalm.training.run import TrainingRun

    run = TrainingRun(
        settings, retriever_name_or_path=retriever_name_or_path, dataset_path=dataset_path
    )
    examples = run.examples(needs={"passage"}, optional=set(), hints={"answer"})
    check_negatives(examples, settings)
    retriever = run.retriever()
    rows = Rows(examples, retriever)
    run.fit(
        Contrastive(retriever, settings.logit_scale, **vector_options(settings)),
        rows,
        preview=dry_run.preview_rows(rows),
        next_step=after_training(
            "eval-retriever",
            dataset_path,
            settings,
            run.folder.path / "retriever",
            *("--baseline", retriever_name_or_path),
        ),
    )
