"""Search an index."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dalm.records import Hit


def search(
    index_dir: str,
    question: str,
    settings: Annotated[Search, Parameter(name="*")] = Search(),  # noqa: B008
) -> None:
    """Find the passages of an index for a question.

    Parameters
    ----------
    index_dir
        Folder of the index, as `dalm index` writes it.
    question
        What to look for.
    """
    from dalm import display
    from dalm.config import check
    from dalm.models.loading import placement_of
    from dalm.retrieval.hybrid import check_question, searcher_of
    from dalm.retrieval.index_folder import IndexFolder
    from dalm.retrieval.reranking import reranked, reranker_of

    check(settings)
    check_question(question)
    generation = IndexFolder(index_dir).current()
    placement = placement_of(settings)
    reranker = reranker_of(settings, placement)
    found_by = searcher_of(generation, placement, settings.search, settings.where)
    searcher = reranked(found_by, reranker, settings.rerank_top)
    (hits,) = searcher.search([question], settings.top_k)
    if settings.as_json:
        display.show_json([hit.to_dict() for hit in hits])
    else:
        _print(hits)


def _print(hits: "Sequence[Hit]") -> None:
    """Print each hit: rank, score, scores and ranks by stage, source and page, and its text."""
    from dalm import display

    if not hits:
        display.show("nothing found")
    for rank, hit in enumerate(hits, start=1):
        stages = ", ".join(
            f"{name} {score:.3f}" + (f" #{hit.ranks[name]}" if name in hit.ranks else "")
            for name, score in hit.scores.items()
        )
        display.show(f"{rank}. {hit.label}   {hit.score:.4f} ({stages})")
        display.show(f"   {' '.join(hit.passage.text.split())}\n")
