"""A training row in; the text that a model reads, with the tokens of its loss marked, out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from dalm.models.generator import Generator
from dalm.models.prompt_frame import Prompt
from dalm.models.retriever import Kind, Retriever
from dalm.training.data.batches import Rows

logger = logging.getLogger(__name__)

OPEN, CLOSE = "⟦", "⟧"
"""What stands around a token of the loss."""


@dataclass(frozen=True)
class Shown:
    """A row as a model reads it, and which of its tokens have a loss of their own."""

    name: str
    tokenizer: Any
    tokens: Sequence[int]
    in_loss: Sequence[bool]


def prompt(generator: Generator, joined: Prompt, *, whole: bool = False) -> Shown:
    """Return a generator's prompt: the answer has a loss, with `whole` all but the first token."""
    first = 1 if whole else joined.answer_start
    in_loss = [place >= first for place in range(joined.length)]
    return Shown("generator", generator.tokenizer, joined.tokens, in_loss)


def text(retriever: Retriever, tokens: Sequence[int], kind: Kind) -> Shown:
    """Return a text as the retriever reads it: its vector has a loss, no single token."""
    return Shown(kind, retriever.model.tokenizer, tokens, [False] * len(tokens))


def texts_of(rows: Rows) -> list[Shown]:
    """Return the first row's question and gold passage, and its prompt if there is a generator."""
    gold = int(rows.gold[0])
    shown = [text(rows.retriever, rows.query_tokens[0].tolist(), "query")]
    if gold >= 0:
        shown.append(text(rows.retriever, rows.base.tokens[gold].tolist(), "passage"))
    return shown


def pair_of(rows: Rows, *, whole: bool) -> list[Shown]:
    """Return the first row as retriever and generator read it, with its gold or first passage."""
    generator = rows.generator
    assert generator is not None
    passage = rows.base.pieces[max(0, int(rows.gold[0]))].tolist()
    query, answer = rows.query_pieces[0].tolist(), rows.answer_pieces[0].tolist()
    joined = generator.frame.join([passage], query, answer, generator.max_length)
    return [*texts_of(rows), prompt(generator, joined, whole=whole)]


def marked(row: Shown) -> str:
    """Return the row as text, each token with a loss between ⟦ and ⟧, special tokens in sight."""
    parts: list[str] = []
    before: list[int] = []
    for in_loss, run in groupby(zip(row.in_loss, row.tokens, strict=True), key=itemgetter(0)):
        tokens = [token for _, token in run]
        for piece in _pieces(row.tokenizer, tokens) if in_loss else [tokens]:
            text = _behind(row.tokenizer, before, piece)
            parts.append(f"{OPEN}{text}{CLOSE}" if in_loss else text)
            before = piece[-8:]
    return "".join(parts)


def _pieces(tokenizer: Any, tokens: list[int]) -> Iterator[list[int]]:
    """Yield the tokens one by one; those that make up one character stay together."""
    pending: list[int] = []
    for token in tokens:
        pending.append(token)
        if not tokenizer.decode(pending, skip_special_tokens=False).endswith("\ufffd"):
            yield pending
            pending = []
    if pending:
        yield pending


def _behind(tokenizer: Any, before: list[int], tokens: list[int]) -> str:
    """Return the text of tokens as it is behind others: alone, some lose their first blank."""
    known, both = (
        tokenizer.decode(ids, skip_special_tokens=False) for ids in (before, before + tokens)
    )
    if not both.startswith(known):  # `before` began or ended within a character
        return str(tokenizer.decode(tokens, skip_special_tokens=False))
    return str(both[len(known) :])


def show(row: Shown) -> None:
    """Log a row with its marks."""
    count = sum(row.in_loss)
    loss = (
        f"{count} of them in the loss, each in {OPEN}{CLOSE}" if count else "no loss of their own"
    )
    logger.info("row        %s, %d tokens, %s:", row.name, len(row.tokens), loss)
    for line in marked(row).splitlines():
        logger.info("           | %s", line)
