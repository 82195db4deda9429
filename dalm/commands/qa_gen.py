"""Make questions and answers: passages in, tables to train and to test on out."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import PairColumns, QaGen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dalm.llm.language_model import Answered, Failed
    from dalm.records import Passage
    from dalm.synth.generation import Model
    from dalm.synth.pairs import Rejection
    from dalm.synth.question_prompts import Request
    from dalm.synth.round_trip import Search


DEFAULTS = QaGen()


def qa_gen(
    dataset_path: str,
    settings: Annotated[QaGen, Parameter(name="*")] = DEFAULTS,
) -> None:
    """Make questions with answers from a table of passages, and split them by document.

    A question passes the gates if it stands alone, a quote from the passage supports its answer,
    no other question says the same, and it finds its passage again.

    Parameters
    ----------
    dataset_path
        Table with passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.io.examples import read_passages
    from dalm.synth import generation, qa_run
    from dalm.synth.selection import choose, split

    folder = qa_run.start(settings)
    model = _model(settings)
    columns = PairColumns(
        passage_column=settings.passage_column,
        title_column=settings.title_column,
        encoding=settings.encoding,
    )
    passages = read_passages(dataset_path, columns)
    if settings.dry_run:
        generation.show_estimate(folder, model, passages, settings)
        return
    searches = list(_searches(passages, settings))
    rejections: list[Rejection] = []
    made = generation.make(folder, model, passages, settings, rejections)
    pairs = choose(made, searches, settings.round_trip_k, rejections)
    if settings.limit:
        generation.show_trial(pairs, rejections)
        return
    qa_run.report_rejections(len(pairs), rejections)
    sides = split(pairs, passages, settings.test_share, settings.seed)
    qa_run.write(folder, settings, dataset_path, sides, rejections)


def _model(settings: QaGen) -> "Model | None":
    """Return the model to ask, if one is."""
    from dalm.llm.language_model import Reply
    from dalm.synth import generation

    if settings.backend == "extractive":
        return None
    if settings.backend == "http":
        return generation.served(settings)
    from dalm.llm.local_model import load_chat
    from dalm.models.loading import place

    assert settings.generator_name_or_path is not None
    placement = replace(place(settings.device, settings.precision), frozen=True)
    chat = load_chat(settings.generator_name_or_path, placement)

    def ask(requests: "Sequence[Request]", answered: "Answered", failed: "Failed") -> None:
        chat.answer(
            [chat.tokenise(request.messages) for request in requests],
            settings.max_new_tokens,
            lambda row, *reply: answered(requests[row], Reply(*reply)),
            lambda row: failed(requests[row], "the prompt leaves no room for an answer"),
        )

    return generation.local(settings, chat.fingerprint(), ask)


def _searches(passages: "Sequence[Passage]", settings: QaGen) -> "Iterator[Search]":
    """Yield what the questions have to find their passages by: words, and perhaps vectors."""
    from dalm.retrieval.bm25 import BM25

    if not settings.round_trip_k:
        return
    yield BM25(passages).search
    if settings.retriever_name_or_path:  # only then is torch worth its seconds
        from dalm.models.loading import place
        from dalm.models.retriever import load_retriever
        from dalm.retrieval.base import build_index, find

        placement = replace(place(settings.device, settings.precision), frozen=True)
        retriever = load_retriever(settings.retriever_name_or_path, placement)
        index = build_index(retriever, passages)
        yield lambda queries, k: find(retriever, queries, index, k)
