"""Tokenise the texts of a prompt template, and join prompts from tokenised pieces.

A prompt is a list of pieces: opening, (mark, passage, end of passage) for each passage, question
mark, query, answer mark, answer, end. Each piece is tokenised once and separately, so that the
prompts of training are those of evaluation token for token, truncation shortens the passages only,
and prompts for several candidate passages are joined without tokenising anything again.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dalm.errors import UserError
from dalm.prompts import DEFAULT, Message, PromptTemplate

logger = logging.getLogger(__name__)

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt with its answer: the answer's tokens are `tokens[answer_start:]`."""

    tokens: list[int]
    answer_start: int

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens of a template."""

    opening: Tokens
    passage: Tokens
    """Before each passage."""
    query: Tokens
    """Between the last passage and the query."""
    answer: Tokens
    """Between the query and the answer."""
    end: int
    """The token that closes the answer; it is trained, and generation stops at it."""
    passage_end: Tokens = ()
    """After each passage."""

    def join(
        self,
        passages: Sequence[Tokens],
        query: Tokens,
        answer: Tokens | None,
        max_length: int,
    ) -> Prompt:
        """Join a prompt of at most `max_length` tokens by truncating the passages only.

        With `answer` None the prompt ends where the answer begins.

        Raises:
            ValueError: frame, query and answer without any passage are longer than `max_length`.
        """
        tail = [*self.query, *query, *self.answer]
        closing = [] if answer is None else [*answer, self.end]
        room = max_length - len(self.opening) - len(tail) - len(closing)
        room -= len(passages) * (len(self.passage) + len(self.passage_end))
        if room < 0:
            raise ValueError(f"a prompt without its passages needs {max_length - room} tokens")
        tokens = [*self.opening]
        kept = shares([len(passage) for passage in passages], room)
        for passage, length in zip(passages, kept, strict=True):
            tokens += self.passage
            tokens += passage[:length]
            tokens += self.passage_end
        tokens += tail
        return Prompt(tokens + closing, len(tokens))

    def overhead(self, passages: int = 1) -> int:
        """Return the number of tokens that are neither passage nor query nor answer."""
        frame = len(self.opening) + len(self.query) + len(self.answer) + 1
        return frame + passages * (len(self.passage) + len(self.passage_end))


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """Divide `room` tokens equally among texts; what a short text leaves goes to the others.

    >>> shares([10, 2, 10], 12)
    [5, 2, 5]
    """
    given = [0] * len(lengths)
    for rank, place in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        given[place] = min(lengths[place], room // (len(lengths) - rank))
        room -= given[place]
    return given


@dataclass(frozen=True, slots=True)
class FrameTexts:
    """The texts of a frame: a prompt template as one model reads it."""

    opening: str
    passage: str
    passage_end: str
    query: str
    answer: str
    end: str = ""
    """After the answer, as a chat template closes a turn; the end-of-text token if empty."""
    is_chat: bool = False
    """Whether opening, answer and end come from the model's own chat template."""


def plain_texts(template: PromptTemplate) -> FrameTexts:
    """Return the frame of a model without a chat template."""
    before, after = template.around_question
    return FrameTexts(
        template.instruction, *template.around_passage, before, f"{after}{template.answer}"
    )


def chat_texts(
    render: Callable[[list[Message]], str], template: PromptTemplate = DEFAULT
) -> FrameTexts | None:
    """Return the frame of a chat model, or None if its rendering loses or doubles a piece.

    `render` turns a user's and an assistant's message into text by the model's own chat template.
    """
    markers = [f"<<<{name}>>>" for name in ("passage", "query", "answer")]
    passage, query, answer = markers
    user = template.user_message(query, [passage])
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    before, after = template.around_passage
    question, _ = template.around_question
    inner = re.escape(f"{before}{passage}{after}{question}{query}")
    match = re.fullmatch(f"(.*){inner}(.*){answer}(.*)", render(messages), re.DOTALL)
    if match is None or any(marker in "".join(match.groups()) for marker in markers):
        return None
    opening, turn, end = match.groups()
    return FrameTexts(opening, before, after, question, turn, end, is_chat=True)


def texts_of(tokenizer: Any, template: PromptTemplate) -> FrameTexts:
    """Return the frame's texts: the template, within the model's own chat template if it works."""
    if not getattr(tokenizer, "chat_template", None):
        return plain_texts(template)
    try:
        found = chat_texts(
            lambda messages: tokenizer.apply_chat_template(messages, tokenize=False), template
        )
    except Exception as error:  # a chat template is a program of the model's authors
        logger.warning("the model's chat template failed (%s): using the plain prompt", error)
        return plain_texts(template)
    if found is None:
        logger.warning("the model's chat template changes its messages: using the plain prompt")
        return plain_texts(template)
    return found


class Blanks(NamedTuple):
    """Blanks at the end of the marks, which are tokenised with the text that follows.

    `Question: Where` and `[/INST] Ulm` are `▁Where` and `▁Ulm` to a model, not a blank and then a
    word without one.
    """

    passage: str = ""
    query: str = ""
    answer: str = ""


def frame_of(tokenizer: Any, texts: FrameTexts) -> tuple[Frame, Blanks]:
    """Return the tokens of a frame, and the blanks with which the texts in it begin."""
    opening = tokenizer(texts.opening, add_special_tokens=False).input_ids
    if not texts.is_chat and (bos := leading_token(tokenizer)) is not None:
        opening = [bos, *opening]
    marks = (texts.passage, texts.query, texts.answer)
    stripped = [mark.rstrip(" ") for mark in marks]
    pieces = tokenise(tokenizer, [*stripped, texts.passage_end])
    passage, query, answer, passage_end = (piece.tolist() for piece in pieces)
    frame = Frame(opening, passage, query, answer, _end_token(tokenizer, texts.end), passage_end)
    return frame, Blanks(*(m[len(s) :] for m, s in zip(marks, stripped, strict=True)))


def leading_token(tokenizer: Any) -> int | None:
    """Return BOS if this tokenizer puts it before a text."""
    ids = tokenizer("a").input_ids
    return (
        ids[0] if tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else None
    )


def _end_token(tokenizer: Any, end: str) -> int:
    for token in tokenizer(end, add_special_tokens=False).input_ids:
        if token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder:
            return int(token)
    if tokenizer.eos_token_id is None:
        raise UserError("the generator's tokenizer has no EOS token, so no answer could ever end")
    return int(tokenizer.eos_token_id)


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the tokens of each text as they are after a line break, which every prompt has.

    At the start of a text, a SentencePiece model would lose or double the blank before a word.
    """
    if not texts:
        return []
    options = {"add_special_tokens": False, "return_attention_mask": False}
    # The line break is an anchor; `verbose` silences "longer than the model": pieces are cut later.
    anchor = tokenizer("\n", **options).input_ids
    anchored = tokenizer([f"\n{text}" for text in texts], verbose=False, **options).input_ids
    rows = []
    for text, ids in zip(texts, anchored, strict=True):
        if ids[: len(anchor)] == anchor:
            rows.append(np.array(ids[len(anchor) :], np.int32))
        else:  # the line break merged with the text, as in text that begins with one
            rows.append(np.array(tokenizer(text, verbose=False, **options).input_ids, np.int32))
    return rows
