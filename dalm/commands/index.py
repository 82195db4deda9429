"""Build an index of passages, or bring it up to date."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Index

if TYPE_CHECKING:
    from dalm.retrieval.index_folder import Generation, IndexFolder


def index(
    source: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    *,
    settings: Annotated[Index, Parameter(name="*")],
) -> None:
    """Build an index of passages that `dalm search` and `dalm ask` use, or bring it up to date.

    A second run adds what is new and replaces what has changed; after a kill it goes on with what
    isn't stored yet.

    Parameters
    ----------
    source
        Tables of passages (csv, tsv, jsonl, parquet), or folders and files of documents, which are
        split as `dalm passages` does.
    """
    import logging
    from dataclasses import replace

    from dalm import artifacts, progress, stop_signals
    from dalm.next_step import log_next
    from dalm.retrieval import example_questions, index_folder, indexing, passage_sources, relevance
    from dalm.retrieval.calibration import calibrate

    logger = logging.getLogger(__name__)
    indexing.check_settings(source, settings)
    folder = index_folder.IndexFolder(settings.index_dir, settings.store_url)
    folder.check_is_index()
    with (
        artifacts.claim(folder.path, "--index-dir"),
        stop_signals.explaining(lambda: "; the same command goes on with what isn't stored yet"),
    ):
        if settings.rollback:
            _roll_back(folder)
            return
        indexing.check_retriever(folder, source, settings)
        folder.prepare()
        with passage_sources.collected(source or (), settings, folder.path) as passages:
            generation, retriever = indexing.open_generation(folder, settings)
            if source:
                encoder = indexing.encoder_of(generation, retriever, settings)
                indexing.bring_up_to_date(
                    generation, passages, encoder.encode_blocks, prune=settings.prune
                )
                encoder.tell_cut()
        with progress.waiting("preparing the search"):
            recall = generation.optimise(in_use=not generation.unfinished)
        _say_search(generation, recall)
        if settings.calibrate:
            found = calibrate(generation.store, retriever, settings)
            relevance.save(generation.folder, found.relevance)
            example_questions.save(generation.folder, found.examples)
            generation.describe(replace(generation.description, dense_weight=found.dense_weight))
        folder.switch(generation.number)
        for number in folder.drop(settings.keep):
            logger.info("deleted    generation %d", number)
    logger.info("index      %s, generation %d", folder.path, generation.number)
    log_next(["search", folder.path, "QUESTION"])
    if settings.strict:
        passages.check_all_read()


def _roll_back(folder: "IndexFolder") -> None:
    """Search the generation before, and name the documents that come back with it."""
    import logging
    from contextlib import suppress

    from dalm.errors import UserError
    from dalm.retrieval.documents import list_documents

    logger = logging.getLogger(__name__)
    known = None
    with suppress(UserError):  # a damaged one is a reason to roll back
        known = {each.id for each in list_documents(folder.current().store)}
    logger.info("searched   generation %d, before it was %d", *folder.roll_back())
    if known is None:
        return
    back = [each for each in list_documents(folder.current().store) if each.id not in known]
    if back:
        logger.warning(
            "back       documents are found again that the later generation doesn't have: %d, such "
            "as %s; delete them with dalm index SOURCE --prune if they were removed on purpose",
            *(len(back), back[0].source or back[0].title or back[0].id),
        )


def _say_search(generation: "Generation", recall: float | None) -> None:
    """Say how vectors are searched, unless every one is compared as it is by default."""
    import logging

    from dalm.retrieval.base import RECALL

    logger, codes = logging.getLogger(__name__), generation.description.vectors
    if recall is not None:
        found = "" if codes == "fp32" else f" by {codes} vectors, scored again in fp32"
        logger.info("search     approximate%s, recall@10 %.3f of exact search", found, recall)
    elif codes != "fp32" and generation.store.count():
        logger.warning(
            "search     exact: recall@10 by %s vectors stays below %.2f of exact search, so they "
            "aren't used, and every vector is compared",
            *(codes, RECALL),
        )
