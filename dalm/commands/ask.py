"""Ask an index questions."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Ask

if TYPE_CHECKING:
    from dalm.rag.conversation import Conversation, Turn


def ask(
    index_dir: str,
    question: str | None = None,
    *,
    settings: Annotated[Ask, Parameter(name="*")] = Ask(),  # noqa: B008
) -> None:
    """Answer a question from the passages of an index, and say which they are.

    Without a question, questions are read line by line: a conversation, in which a follow-up
    question may refer to earlier ones. An empty line ends it.

    Parameters
    ----------
    index_dir
        Folder of the index, as `dalm index` writes it.
    question
        The question.
    """
    from dalm.config import check
    from dalm.models.loading import check_model_is_there, placement_of
    from dalm.rag.conversation import Conversation
    from dalm.rag.readers import check_generator, load_reader, rewriter_of, served_reader
    from dalm.retrieval.hybrid import check_question, searcher_of
    from dalm.retrieval.index_folder import IndexFolder
    from dalm.retrieval.reranking import reranked, reranker_of

    check(settings)
    check_generator(settings, "dalm ask")
    if question is not None:
        check_question(question)
    generation = IndexFolder(index_dir).current()
    name, adapter = settings.generator_name_or_path, settings.generator_peft_model_path
    if name is not None:
        check_model_is_there(name, "generator")
    placement = placement_of(settings)
    reranker = reranker_of(settings, placement)
    found_by = searcher_of(generation, placement, settings.search, settings.where)
    searcher = reranked(found_by, reranker, settings.rerank_top)
    if name is None:
        served = served_reader(settings, in_use=True)
        conversation = Conversation(searcher, served, served.model)
    else:
        reader = load_reader(settings, name, adapter, settings.generator_max_len, in_use=True)
        conversation = Conversation(searcher, reader, rewriter_of(reader, name))
    conversation.answer_anyway = settings.answer_anyway
    if question is not None:
        _answer(conversation, question, settings)
        return
    while line := _read_line():
        _answer(conversation, line, settings)


def _read_line() -> str:
    """Read a question; who types is prompted, not where answers go to a file or a program."""
    import sys

    from dalm.errors import UserError

    typed = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        line = input("> " if typed else "").strip()
    except EOFError:
        return ""
    except UnicodeDecodeError as error:
        raise UserError("the question isn't UTF-8; type it again") from error
    return line


def _answer(conversation: "Conversation", question: str, settings: Ask) -> None:
    """Print an answer as it is generated, and the passages read."""
    from dalm import display

    turn, pieces = conversation.ask(question)
    if settings.as_json:
        for _ in pieces:
            pass
        display.show_json(_as_json(turn))
        return
    if settings.verbose and turn.searched != question:
        display.show(f"searched: {turn.searched}")
    try:
        for piece in pieces:
            display.show_piece(piece)
    finally:  # an error has a line of its own
        display.show("\n")
    for number, hit in enumerate(turn.hits, start=1):
        mark = "" if not conversation.reader.cites or number in turn.cited else " (not cited)"
        display.show(f"[{number}] {hit.citation}{mark}")
    if turn.not_found and turn.hits:
        display.show("they are below the index's threshold; --answer-anyway answers from them")
    if turn.truncated:
        display.show("the passage doesn't fit into the prompt as a whole; its end was cut off")
    if turn.omitted:
        display.show(f"{turn.omitted} more passages don't fit into the prompt")
    if cut := _cut(turn, settings):
        display.show(cut)
    if turn.dropped:
        display.show(f"{turn.dropped} citations name no passage")


def _cut(turn: "Turn", settings: Ask) -> str:
    """Return why an answer isn't whole; nothing if it is."""
    if turn.outcome.finish_reason == "content_filter":
        return "the answer is cut off: the server's content filter stopped it"
    if turn.outcome.finish_reason != "length":
        return ""
    served = ", or where the server's context ends" if settings.generator_url else ""
    most = settings.max_new_tokens
    return f"the answer is cut off at {most} tokens (--max-new-tokens){served}"


def _as_json(turn: "Turn") -> dict[str, object]:
    passages = [
        {"number": number} | hit.to_dict() | {"number": number}  # a column may be called so
        for number, hit in enumerate(turn.hits, start=1)
    ]
    return {
        "question": turn.question,
        "searched": turn.searched,
        "answer": turn.answer,
        "finish_reason": turn.outcome.finish_reason,
        "not_found": turn.not_found,
        "cited": turn.cited,
        "dropped_citations": turn.dropped,
        "omitted_passages": turn.omitted,
        "truncated": turn.truncated,
        "passages": passages,
    }
