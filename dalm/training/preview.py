"""Show a training row as a model reads it, with the tokens of its loss marked."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

from dalm.models.generator import Generator
from dalm.models.prompt_frame import Prompt
from dalm.models.retriever import Kind, Retriever
from dalm.training.data.batches import Rows
from dalm.training.data.packing import PackedBatch, PackedRows

logger = logging.getLogger(__name__)

OPEN, CLOSE = "⟦", "⟧"
"""Marks around a token of the loss."""


@dataclass(frozen=True)
class PreviewRow:
    """A row as a model reads it, and which of its tokens have a loss."""

    name: str
    tokenizer: Any
    tokens: Sequence[int]
    in_loss: Sequence[bool]


def of_prompt(generator: Generator, prompt: Prompt, *, whole: bool = False) -> PreviewRow:
    """Return a generator's prompt; in the loss is the answer, or with `whole` nearly all."""
    first = 1 if whole else prompt.answer_start
    in_loss = [place >= first for place in range(prompt.length)]
    return PreviewRow("generator", generator.tokenizer, prompt.tokens, in_loss)


def of_text(retriever: Retriever, tokens: Sequence[int], kind: Kind) -> PreviewRow:
    """Return a text as the retriever reads it: its embedding has a loss, not its tokens."""
    return PreviewRow(kind, retriever.model.tokenizer, tokens, [False] * len(tokens))


def of_retriever(rows: Rows) -> list[PreviewRow]:
    """Return the first row's question and gold passage as the retriever reads them."""
    gold = int(rows.gold[0])
    shown = [of_text(rows.retriever, rows.query_tokens[0].tolist(), "query")]
    if gold >= 0:
        shown.append(of_text(rows.retriever, rows.base.tokens[gold].tolist(), "passage"))
    return shown


def of_pair(rows: Rows, *, whole: bool) -> list[PreviewRow]:
    """Return the first row, with a passage, as retriever and generator read it."""
    generator = rows.generator
    assert generator is not None
    passage = rows.base.pieces[max(0, int(rows.gold[0]))].tolist()
    query, answer = rows.query_pieces[0].tolist(), rows.answer_pieces[0].tolist()
    joined = generator.frame.join([passage], query, answer, generator.max_length)
    return [*of_retriever(rows), of_prompt(generator, joined, whole=whole)]


def of_packed(rows: PackedRows, generator: Generator) -> PreviewRow:
    """Return the packed row with the most documents."""
    fullest = max(range(len(rows)), key=lambda row: len(rows.rows[row]))
    packed = cast(PackedBatch, rows.collate([fullest]))
    tokens, scored = packed["tokens"][0].tolist(), packed["scored"][0].tolist()
    return PreviewRow("generator", generator.tokenizer, tokens, scored)


def marked(row: PreviewRow) -> str:
    """Return the row as text, each token with a loss between ⟦ and ⟧, special tokens shown."""
    parts: list[str] = []
    before: list[int] = []
    for in_loss, run in groupby(zip(row.in_loss, row.tokens, strict=True), key=itemgetter(0)):
        tokens = [token for _, token in run]
        for piece in _pieces(row.tokenizer, tokens) if in_loss else [tokens]:
            text = _text_after(row.tokenizer, before, piece)
            parts.append(f"{OPEN}{text}{CLOSE}" if in_loss else text)
            before = piece[-8:]
    return "".join(parts)


def _pieces(tokenizer: Any, tokens: list[int]) -> Iterator[list[int]]:
    """Yield the tokens one by one; the tokens of one character stay together."""
    pending: list[int] = []
    for token in tokens:
        pending.append(token)
        if not tokenizer.decode(pending, skip_special_tokens=False).endswith("\ufffd"):
            yield pending
            pending = []
    if pending:
        yield pending


def _text_after(tokenizer: Any, before: list[int], tokens: list[int]) -> str:
    """Return the text of tokens as it is after others: alone, some lose their leading space."""
    known, both = (
        tokenizer.decode(ids, skip_special_tokens=False) for ids in (before, before + tokens)
    )
    if not both.startswith(known):  # `before` began or ended within a character
        return str(tokenizer.decode(tokens, skip_special_tokens=False))
    return str(both[len(known) :])


def show(row: PreviewRow) -> None:
    """Log a row with its marks."""
    count = sum(row.in_loss)
    loss = f"{count} of them in the loss, each in {OPEN}{CLOSE}" if count else "none in the loss"
    logger.info("row        %s, %d tokens, %s:", row.name, len(row.tokens), loss)
    for line in marked(row).splitlines():
        logger.info("           | %s", line)
