"""Questions and their hits in, answers out, through the prompt that training used."""

from collections.abc import Sequence

import numpy as np

from dalm.errors import UserError
from dalm.models.generator import Generator
from dalm.prompts import Prompt, numbered
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
    room = generator.max_length - max_new_tokens
    prompts = []
    for query, prompt in zip(queries, prompts_of(generator, queries, read, room), strict=True):
        if prompt is None:
            raise UserError(
                f'the question "{query[:60]}" leaves no room for an answer: its prompt without any '
                f"passage is longer than {room} tokens; raise --generator-max-len or lower "
                "--max-new-tokens"
            )
        prompts.append(prompt)
    texts = generator.generate(prompts, max_new_tokens)
    return [Answer(*answered) for answered in zip(queries, texts, read, strict=True)]


def prompts_of(
    generator: Generator,
    queries: Sequence[str],
    read: Sequence[Sequence[Hit]],
    room: int,
    references: Sequence[str] | None = None,
) -> list[Prompt | None]:
    """Return each question's prompt in at most `room` tokens, ended by its reference if given.

    Passages are cut to fit, and numbered if the generator cites; None where the prompt doesn't fit
    without them. Each text is tokenised once.
    """
    shown = [[hit.passage.text for hit in found] for found in read]
    if generator.cites:
        shown = [numbered(texts) for texts in shown]
    distinct = list(dict.fromkeys(text for texts in shown for text in texts))
    passages = dict(zip(distinct, _lists(generator.tokenise(distinct)), strict=True))
    endings: Sequence[list[int] | None] = [None] * len(queries)
    if references is not None:
        endings = _lists(generator.tokenise_answers(references))
    prompts: list[Prompt | None] = []
    pieces = _lists(generator.tokenise(queries))
    for piece, texts, ending in zip(pieces, shown, endings, strict=True):
        parts = [passages[text] for text in texts]
        try:
            prompts.append(generator.frame.join(parts, piece, ending, room))
        except ValueError:
            prompts.append(None)
    return prompts


def _lists(rows: Sequence[np.ndarray]) -> list[list[int]]:
    return [row.tolist() for row in rows]
