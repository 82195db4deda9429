"""Answer questions from retrieved passages: hits → prompts → answers.

Evaluation, `ask` and `serve` take this one path, with the prompts that training used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dalm.errors import UserError
from dalm.models.generator import Generator
from dalm.models.prompt_frame import Prompt
from dalm.prompts import numbered
from dalm.records import Answer, Hit


class Reader(Protocol):
    """A generator that answers from passages: local, or on a server."""

    @property
    def reader_passages(self) -> int:
        """The number of best hits in a prompt."""

    @property
    def cites(self) -> bool:
        """Whether the prompts ask for citations."""

    def answer(self, queries: Sequence[str], hits: Sequence[Sequence[Hit]], /) -> list[Answer]:
        """Answer each question from its best hits; without passages if it has none."""


@dataclass(frozen=True)
class LocalReader:
    """A generator in this process, which also gives the likelihood of a reference."""

    generator: Generator
    reader_passages: int
    max_new_tokens: int

    @property
    def cites(self) -> bool:
        """Whether the prompts ask for citations."""
        return self.generator.cites

    def answer(self, queries: Sequence[str], hits: Sequence[Sequence[Hit]], /) -> list[Answer]:
        """Answer each question from its best hits, as `answer` does."""
        return answer(
            self.generator,
            queries,
            hits,
            reader_passages=self.reader_passages,
            max_new_tokens=self.max_new_tokens,
        )


def answer(
    generator: Generator,
    queries: Sequence[str],
    hits: Sequence[Sequence[Hit]],
    *,
    reader_passages: int,
    max_new_tokens: int,
) -> list[Answer]:
    """Answer each question from its best `reader_passages` hits; without passages if it has none.

    A prompt leaves room for `max_new_tokens` within the generator's length; passages that don't fit
    are truncated.

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
    """Return each question's prompt of at most `room` tokens, with its reference if given.

    Passages are truncated to fit; None where the prompt without them is too long. Each text is
    tokenised once.
    """
    passages = passage_texts(generator, read)
    distinct = list(dict.fromkeys(text for texts in passages for text in texts))
    tokens = dict(zip(distinct, _lists(generator.tokenise_passages(distinct)), strict=True))
    answers: Sequence[list[int] | None] = [None] * len(queries)
    if references is not None:
        answers = _lists(generator.tokenise_answers(references))
    prompts: list[Prompt | None] = []
    for query, texts, reference in zip(
        _lists(generator.tokenise_queries(queries)), passages, answers, strict=True
    ):
        try:
            pieces = [tokens[text] for text in texts]
            prompts.append(generator.frame.join(pieces, query, reference, room))
        except ValueError:
            prompts.append(None)
    return prompts


def passage_texts(generator: Generator, read: Sequence[Sequence[Hit]]) -> list[list[str]]:
    """Return the texts of each question's passages as the prompt has them, numbered for citations.

    This is the place to change what of a passage the generator reads.
    """
    texts = [[hit.passage.text for hit in hits] for hits in read]
    return [numbered(each) for each in texts] if generator.cites else texts


def _lists(rows: Sequence[np.ndarray]) -> list[list[int]]:
    return [row.tolist() for row in rows]
