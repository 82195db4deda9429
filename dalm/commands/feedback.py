"""Make training tables of what people say of answers."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import FeedbackExport


def feedback(
    index_dir: str,
    settings: Annotated[FeedbackExport, Parameter(name="*")] = FeedbackExport(),  # noqa: B008
) -> None:
    """Make training tables of the judgments that `dalm serve --feedback` keeps, or delete some.

    A row is weighed by the agreement of those who judged it; passages that the index has no more
    are left out.

    Parameters
    ----------
    index_dir
        Folder of the index, as `dalm index` writes it.
    """
    from dalm.config import check
    from dalm.errors import UserError
    from dalm.file_reading import user_path
    from dalm.next_step import log_next
    from dalm.retrieval.index_folder import IndexFolder
    from dalm.user_feedback import feedback_tables
    from dalm.user_feedback.feedback_store import FeedbackStore
    from dalm.user_feedback.training_rows import feedback_rows

    check(settings)
    feedback_tables.check_files(settings)
    generation = IndexFolder(index_dir).current()
    with FeedbackStore.open(user_path(index_dir), create=False) as store:
        feedback_tables.forget(store, settings)
        passages = feedback_tables.passages_of_index(generation.store, store)
        found = feedback_rows([store], passages)
    feedback_tables.log_summary(found)
    if settings.list_people:
        feedback_tables.show_people(found)
    if not (settings.output or settings.ratings):
        return
    if not found.rows and not found.ratings:
        raise UserError(f"{index_dir}: the judgments give no row yet; nothing is written")
    written = feedback_tables.write(found, settings)
    right = {row.passage.id for row in written if row.passage}
    if settings.output and len(right) > 1:  # else there are no negatives
        retriever = generation.description.adapter or generation.description.retriever
        tuned = user_path(settings.output).with_suffix("")
        words = [retriever, settings.output, "--output-dir", f"{tuned}-tuned"]
        log_next(["train-retriever-only", *words])
