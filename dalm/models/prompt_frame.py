"""Tokenise the texts of a prompt template, and join prompts from tokenised pieces.

A prompt is a list of pieces: opening, (mark, passage, end of passage) for each passage, question
mark, query, answer mark, answer, end. Each piece is tokenised once, as it is within a prompt, so
that the prompts of training are those of evaluation token for token, truncation shortens the
passages only, and prompts for several candidate passages are joined without tokenising anything
again.

Llama 3's, Qwen's and GPT-4's tokenizers read a full stop and the line breaks after it as one token.
There the line breaks before a mark belong to the piece before them (`Border`), so that a prompt has
the tokens of its whole text, which a server tokenises.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dalm.errors import UserError
from dalm.models.chat_rendering import render
from dalm.models.control_tokens import TextTokenizer
from dalm.models.token_arrays import in_parts, token_arrays
from dalm.prompts import DEFAULT, Message, Prompt, PromptTemplate

logger = logging.getLogger(__name__)

Tokens = Sequence[int]


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
    passage_break: Tokens = ()
    """Line breaks with which a passage's own tokens end; a truncated passage gets them again."""

    def tokens(self) -> list[int]:
        """Return all tokens of the frame."""
        pieces = (self.opening, self.passage, self.passage_break, self.passage_end)
        return [token for piece in (*pieces, self.query, self.answer) for token in piece] + [
            self.end
        ]

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
        breaks = len(self.passage_break)
        room -= len(passages) * (len(self.passage) + breaks + len(self.passage_end))
        if room < 0:
            raise ValueError(f"a prompt without its passages needs {max_length - room} tokens")
        tokens = [*self.opening]
        kept = shares([max(len(passage) - breaks, 0) for passage in passages], room)
        for passage, length in zip(passages, kept, strict=True):
            tokens += self.passage
            if len(passage) <= length + breaks:
                tokens += passage
            else:
                tokens += [*passage[:length], *self.passage_break]
            tokens += self.passage_end
        tokens += tail
        return Prompt(tokens + closing, len(tokens))

    def overhead(self, passages: int = 1) -> int:
        """Return the number of tokens that are neither passage nor query nor answer."""
        frame = len(self.opening) + len(self.query) + len(self.answer) + 1
        around = len(self.passage) + len(self.passage_break) + len(self.passage_end)
        return frame + passages * around


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
    passage_break: str = ""
    """Line breaks that belong to each passage, before what follows it."""
    query_break: str = ""
    """Line breaks that belong to the query, before the answer's mark."""

    def prompt(self, passage: str, query: str) -> str:
        """Return the text of a prompt with one passage, up to where the answer begins."""
        read = f"{self.passage}{passage}{self.passage_break}{self.passage_end}"
        asked = f"{self.query}{query}{self.query_break}{self.answer.rstrip(' ')}"
        return f"{self.opening}{read}{asked}"


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


def texts_of(tokenizer: Any, template: PromptTemplate, date: datetime | None = None) -> FrameTexts:
    """Return the frame's texts: the template, within the model's own chat template if it has one.

    `date` is what a chat template that prints the date takes for today.

    Raises:
        ChatTemplateError: it can't be rendered.
    """
    if not getattr(tokenizer, "chat_template", None):
        return plain_texts(template)
    found = chat_texts(lambda messages: render(tokenizer, messages, date=date), template)
    if found is None:
        logger.warning("the model's chat template changes its messages: using the plain prompt")
        return plain_texts(template)
    return found


@dataclass(frozen=True, slots=True)
class Border:
    """What stands around a text in a prompt and is tokenised with it."""

    blank: str = ""
    """Before the text: `Question: Where` and `[/INST] Ulm` are `▁Where` and `▁Ulm` to a model, not
    a blank and then a word without one."""
    breaks: str = ""
    """After the text: line breaks, which are one token with a full stop before them."""
    break_tokens: tuple[int, ...] = ()
    """The tokens of the line breaks on their own."""
    following: str = ""
    """What follows the line breaks: tokenised for its place, and no part of the piece."""
    following_tokens: tuple[int, ...] = ()


class Borders(NamedTuple):
    """The borders of a prompt's texts."""

    passage: Border = Border()
    query: Border = Border()
    answer: Border = Border()


PROBES = ("Ulm", "Ulm.", "Ulm?", "(Ulm)", "Ulm:", "“Ulm”", "9 %")
"""Texts with which prompts are compared to the tokens of their whole text."""


def frame_of(tokenizer: Any, texts: FrameTexts) -> tuple[Frame, Borders]:
    """Return the tokens of a frame, and the borders of the texts in it.

    Line breaks before a mark are tokenised with the mark, unless prompts then differ from their
    whole text's tokens, and don't with line breaks that belong to the piece before.
    """
    apart = _frame(tokenizer, texts)
    shifted = _breaks_first(texts)
    if shifted is None or _is_whole(tokenizer, texts, apart):
        return apart
    joined = _frame(tokenizer, shifted)
    return joined if _is_whole(tokenizer, texts, joined) else apart


def _breaks_first(texts: FrameTexts) -> FrameTexts | None:
    """Move the line breaks before each mark to the piece before it; None if there are none."""
    breaks = _line_breaks(texts.passage)
    before_answer = _line_breaks(texts.answer)
    if breaks != _line_breaks(texts.query) or not (breaks or before_answer):
        return None
    after_passage = texts.passage_end + breaks
    passage_break = _line_breaks(after_passage)
    return replace(
        texts,
        opening=texts.opening + breaks,
        passage=texts.passage.removeprefix(breaks),
        query=texts.query.removeprefix(breaks),
        answer=texts.answer.removeprefix(before_answer),
        passage_break=passage_break,
        passage_end=after_passage.removeprefix(passage_break),
        query_break=before_answer,
    )


def _line_breaks(text: str) -> str:
    """Return the white space that a text begins with, up to its last line break."""
    found = re.match(r"\s*[\r\n]", text)
    return found[0] if found else ""


def _is_whole(tokenizer: Any, texts: FrameTexts, found: tuple[Frame, Borders]) -> bool:
    """Return whether joined prompts have the tokens of their whole text."""
    frame, borders = found
    passages = tokenise(tokenizer, PROBES, borders.passage)
    queries = tokenise(tokenizer, PROBES, borders.query)
    bos = [] if texts.is_chat else _leading(tokenizer)
    whole = tokenizer([texts.prompt(text, text) for text in PROBES], add_special_tokens=False)
    return all(
        frame.join([passage.tolist()], query.tolist(), None, 2**31).tokens == [*bos, *ids]
        for passage, query, ids in zip(passages, queries, whole.input_ids, strict=True)
    )


def _frame(tokenizer: Any, texts: FrameTexts) -> tuple[Frame, Borders]:
    marks = (texts.passage, texts.query, texts.answer)
    stripped = [mark.rstrip(" ") for mark in marks]
    pieces = tokenise(tokenizer, [*stripped, texts.passage_end])
    passage, query, answer, passage_end = (piece.tolist() for piece in pieces)
    next_mark = texts.passage_end or texts.query.rstrip(" ") or "a"
    breaks = [texts.passage_break, texts.query_break, ""]
    following = [next_mark, texts.answer.rstrip(" ") or "a", ""]
    borders = Borders(
        *(
            _border(tokenizer, mark[len(bare) :], *rest)
            for mark, bare, *rest in zip(marks, stripped, breaks, following, strict=True)
        )
    )
    opening = _opening(tokenizer, texts, borders.passage)
    if not texts.is_chat:
        opening = [*_leading(tokenizer), *opening]
    end = _end_token(tokenizer, texts.end)
    broken = borders.passage.break_tokens
    return Frame(opening, passage, query, answer, end, passage_end, broken), borders


def _border(tokenizer: Any, blank: str, breaks: str, following: str) -> Border:
    if not breaks:
        return Border(blank)
    (after,) = tokenise(tokenizer, [following])
    ids = tokenizer(f"a{breaks}{following}", add_special_tokens=False).input_ids
    before = tokenizer("a", add_special_tokens=False).input_ids
    alone = ids[len(before) : len(ids) - len(after)]
    return Border(blank, breaks, tuple(alone), following, tuple(after.tolist()))


def _opening(tokenizer: Any, texts: FrameTexts, passage: Border) -> list[int]:
    """Return the tokens of the opening, whose line breaks, if any, are followed by a mark."""
    mark = "" if not passage.breaks else texts.passage.rstrip(" ") or "a"
    (after,) = tokenise(tokenizer, [mark])
    ids: list[int] = tokenizer(texts.opening + mark, add_special_tokens=False).input_ids
    return ids[: len(ids) - len(after)]


def _leading(tokenizer: Any) -> list[int]:
    bos = leading_token(tokenizer)
    return [] if bos is None else [bos]


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


def tokenise(tokenizer: Any, texts: Sequence[str], border: Border = Border()) -> list[np.ndarray]:
    """Return the tokens of each text as they are after a line break, which every prompt has.

    At the start of a text, a SentencePiece model would lose or double the blank before a word. What
    `border` has around the text is tokenised with it. `tokenizer` may be a `TextTokenizer`.
    """
    as_text = isinstance(tokenizer, TextTokenizer)
    encode = tokenizer.arrays if as_text else partial(token_arrays, tokenizer)
    # The line break is an anchor.
    anchor = encode(["\n"])[0].tolist()
    closing = list(border.following_tokens)
    after = border.breaks + border.following

    def within_breaks(texts: list[str]) -> list[np.ndarray]:
        rows = []
        found = encode([f"\n{border.blank}{text}{after}" for text in texts])
        for text, ids in zip(texts, found, strict=True):
            end = len(ids) - len(closing)
            if ids[: len(anchor)].tolist() == anchor and ids[end:].tolist() == closing:
                rows.append(ids[len(anchor) : end])
            else:  # a line break merged with the text, as in text that begins with one
                (alone,) = encode([border.blank + text])
                rows.append(np.array([*alone, *border.break_tokens], np.int32))
        return rows

    return in_parts(texts, within_breaks)
