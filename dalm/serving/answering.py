"""Questions and their hits in, answers out, through the prompt that training used."""

from collections.abc import Sequence

from dalm.errors import UserError
from dalm.models.generator import Generator
from dalm.prompts import Prompt
from dalm.records import Answer, Hit


def answer(
    generator: Generator,
    queries: Sequence[str],
    hits: Sequence[Sequence[Hit]],
    *,
    reader_passages: int,
    max_new_tokens: int,
) -> list[Answer]:
    """Answer each question from its best `reader_passages` hits; from none if it has no hits.

    A prompt leaves room for `max_new_tokens` within the generator's length; where they don't fit,
    the passages are cut.

    Raises:
        UserError: a question that leaves no room for an answer.
    """
    read = [tuple(found[:reader_passages]) for found in hits]
    distinct = {hit.passage.id: hit.passage.text for found in read for hit in found}
    passages = dict(zip(distinct, _lists(generator, list(distinct.values())), strict=True))
    pieces = _lists(generator, queries)
    room = generator.max_length - max_new_tokens
    prompts = []
    for query, piece, found in zip(queries, pieces, read, strict=True):
        parts = [passages[hit.passage.id] for hit in found]
        prompts.append(_prompt(generator, query, piece, parts, room))
    texts = generator.generate(prompts, max_new_tokens)
    return [Answer(*answered) for answered in zip(queries, texts, read, strict=True)]


def _lists(generator: Generator, texts: Sequence[str]) -> list[list[int]]:
    return [row.tolist() for row in generator.tokenise(texts)]


def _prompt(
    generator: Generator, query: str, piece: list[int], passages: list[list[int]], room: int
) -> Prompt:
    try:
        return generator.frame.join(passages, piece, None, room)
    except ValueError as error:
        raise UserError(
            f'the question "{query[:60]}" leaves no room for an answer: {error}, and there is room '
            f"for {room}; raise --generator-max-len or lower --max-new-tokens"
        ) from error
