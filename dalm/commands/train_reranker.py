"""Train a reranker on hard negatives, or on a teacher's scores of passages."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import RerankerTraining


def train_reranker(
    reranker_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    settings: Annotated[RerankerTraining, Parameter(name="*")],
) -> None:
    """Train a reranker (cross-encoder) on questions with right and wrong passages.

    Losses are sentence-transformers'.

    Parameters
    ----------
    reranker_name_or_path
        Reranker, or an encoder that gets a new head: a folder, or a name on the Hugging Face hub.
    dataset_path
        Table with questions, passages and hard negatives, as `dalm mine-negatives` writes it, or of
        candidates that `dalm score-candidates` has scored.
    """
    from dalm.config import check
    from dalm.training.data.labelled_candidates import read_candidates

    check(settings)
    data = read_candidates(dataset_path, settings)

    # Importing torch takes seconds; what is wrong with the data has been said by now.
    from dalm.next_step import after_reranker_training
    from dalm.training import dry_run
    from dalm.training.data.reranker_rows import RerankerRows
    from dalm.training.objectives.reranker_objective import Reranking
    from dalm.training.run import TrainingRun

    run = TrainingRun(
        settings, reranker_name_or_path=reranker_name_or_path, dataset_path=dataset_path
    )
    reranker = run.reranker()
    rows = RerankerRows(
        data.questions,
        reranker,
        num_candidates=settings.num_candidates,
        target_temperature=data.target_temperature,
        seed=settings.seed,
    )
    run.fit(
        Reranking(reranker, data.kind, rows.wrong_to_right()),
        rows,
        preview=[dry_run.preview_pair(rows)],
        next_step=after_reranker_training(dataset_path, settings, run.folder.path / "reranker"),
    )
