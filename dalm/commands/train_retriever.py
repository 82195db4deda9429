"""Train a retriever on questions and passages, or on a teacher's scores of passages."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import RetrieverOnly

if TYPE_CHECKING:
    from dalm.records import Example, ScoredQuestion

CONTRASTIVE = RetrieverOnly.objective
"""What is trained without a teacher's scores."""
FROM_SCORES = {"listwise": False, "margin_mse": True}
"""What is trained on them, and whether on margins; objectives of other packages say what they need
when they are imported."""


def train_retriever_only(
    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    settings: Annotated[RetrieverOnly, Parameter(name="*")],
) -> None:
    """Train a retriever contrastively on questions and their passages, or on a teacher's scores.

    By default the other passages of a batch are the negatives (symmetric InfoNCE).

    Parameters
    ----------
    retriever_name_or_path
        Embedding model: a folder, or a name on the Hugging Face hub.
    dataset_path
        Table with questions and passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name; or
        of candidates that `dalm score-candidates` has scored.
    """
    from dalm.config import check
    from dalm.config.retriever_training import check_retriever_only

    check_retriever_only(settings)
    check(settings)
    examples: list["Example"] = []
    questions: list["ScoredQuestion"] = []
    if settings.objective == CONTRASTIVE:
        examples = _examples(dataset_path, settings)
    elif settings.objective in FROM_SCORES:
        questions = _scored(dataset_path, settings, margins=FROM_SCORES[settings.objective])

    # Importing torch takes seconds; what is wrong with the data has been said by now.
    from dalm.next_step import after_training
    from dalm.retrieval.embedding_cache import CachedEncoder, folder_of
    from dalm.training import dry_run, frozen_vectors
    from dalm.training.data.batches import Rows
    from dalm.training.data.scored_rows import scored_rows
    from dalm.training.objectives.objective import objective_class
    from dalm.training.run import TrainingRun

    cache = folder_of(settings.cache, settings.cache_dir)
    objective = objective_class(settings.objective, settings.command)
    run = TrainingRun(
        settings, retriever_name_or_path=retriever_name_or_path, dataset_path=dataset_path
    )
    if "scores" in objective.needs:
        margins = "margins" in objective.needs
        questions = questions or _scored(dataset_path, settings, margins=margins)
        rows: Rows = scored_rows(questions, run.retriever(), settings, margins=margins)
    else:
        rows = Rows(examples or _examples(dataset_path, settings), run.retriever())
    encoder = CachedEncoder(rows.retriever, cache)
    frozen_vectors.encode(rows, encoder.encode_passages, dry_run=settings.dry_run)
    run.fit(
        objective.from_config(settings, rows),
        rows,
        preview=dry_run.preview_rows(rows),
        next_step=after_training(
            "eval-retriever",
            dataset_path,
            settings,
            run.folder.path / "retriever",
            *("--baseline", retriever_name_or_path),
            has_corpus="scores" not in objective.needs,
        ),
    )


def _examples(source: str, settings: RetrieverOnly) -> list["Example"]:
    """Read a table's questions with their passages, or mark passages for them.

    Raises:
        UserError: the table can't be read, or leaves a question without a negative.
    """
    from dalm.io.examples import read_examples
    from dalm.training.data.usable_rows import check_negatives

    if settings.passages:
        from dalm.teachers.marked_examples import marked_examples

        examples = marked_examples(source, settings)
    else:
        examples = read_examples(
            source, settings, needs={"passage"}, optional=set(), hints={"answer"}
        )
    check_negatives(examples, settings)
    return examples


def _scored(source: str, settings: RetrieverOnly, *, margins: bool) -> list["ScoredQuestion"]:
    """Read a table's questions whose candidates the teacher tells apart.

    Raises:
        UserError: the table can't be read, or has none.
    """
    from dalm.io.scored_tables import read_scored
    from dalm.training.data.usable_rows import usable_questions

    return usable_questions(read_scored(source, settings), settings, margins=margins)
