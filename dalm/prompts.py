"""Every text template. Training, evaluation and answering use the same ones.

A generator's prompt is a list of pieces: opening, (mark, passage) for each passage, question mark,
query, answer mark, answer, end. Every piece is tokenised once and apart, so that the prompt of
training is the prompt of answering token for token, a truncation shortens the passages alone, and
prompts for several candidate passages are joined without tokenising anything again.

What a model is told to make questions stands in `dalm.synth.question_prompts`.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dalm.errors import UserError

Tokens = Sequence[int]
Message = dict[str, str]

INSTRUCTION = "Answer the question from the passage."
CITE = (
    "Answer the question from the passages. After each statement give the numbers of the passages "
    "that support it, as in [1]."
)
"""In place of the instruction, where citations are asked for; no model is trained with it."""
STATE = "Write a statement that the passage supports."
"""In place of a question, where a sentence of the knowledge base is to be written."""


@dataclass(frozen=True, slots=True)
class Template:
    """The texts that stand around the passages, the query and the answer."""

    opening: str
    passage: str
    """Before each passage."""
    query: str
    """Between the last passage and the query."""
    answer: str
    """Between the query and the answer."""
    end: str = ""
    """After the answer, as a chat template closes a turn; the end-of-text token if empty."""


def plain(instruction: str) -> Template:
    """Return the template of a model that has none of its own."""
    return Template(instruction, "\n\nPassage:\n", "\n\nQuestion:\n", "\n\nAnswer:\n")


PLAIN = plain(INSTRUCTION)
MARKS = (PLAIN.opening, PLAIN.passage, PLAIN.query, PLAIN.answer)
"""They stand in every prompt: a tokenizer made from texts reads them with each one, so that their
words are worth a token each."""


def chat(render: Callable[[list[Message]], str], plain: Template = PLAIN) -> Template | None:
    """Return the template of a chat model, or None if its rendering loses or doubles a piece.

    `render` turns a user's and an assistant's message into text by the model's own chat template.
    What the user says is in the words of `plain`.
    """
    markers = [f"<<<{name}>>>" for name in ("passage", "query", "answer")]
    passage, query, answer = markers
    asked = f"{plain.opening}{plain.passage}{passage}{plain.query}{query}"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    pattern = f"(.*){re.escape(plain.passage + passage + plain.query + query)}(.*){answer}(.*)"
    match = re.fullmatch(pattern, render(messages), re.DOTALL)
    if match is None or any(marker in "".join(match.groups()) for marker in markers):
        return None
    opening, turn, end = match.groups()
    return Template(opening, plain.passage, plain.query, turn, end)


def numbered(texts: Sequence[str]) -> list[str]:
    """Return a prompt's passages with their numbers, from 1, as citations name them."""
    return [f"[{number}] {text}" for number, text in enumerate(texts, start=1)]


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
    """A template in tokens."""

    opening: Tokens
    passage: Tokens
    query: Tokens
    answer: Tokens
    end: int
    """The token that closes the answer; it is trained, and generation stops at it."""

    def join(
        self,
        passages: Sequence[Tokens],
        query: Tokens,
        answer: Tokens | None,
        max_length: int,
    ) -> Prompt:
        """Put a prompt together in at most `max_length` tokens by shortening the passages alone.

        With `answer` None the prompt ends where an answer has to begin.

        Raises:
            ValueError: frame, query and answer alone are longer than `max_length`.
        """
        tail = [*self.query, *query, *self.answer]
        closing = [] if answer is None else [*answer, self.end]
        room = max_length - len(self.opening) - len(tail) - len(closing)
        room -= len(passages) * len(self.passage)
        if room < 0:
            raise ValueError(f"a prompt without its passages needs {max_length - room} tokens")
        tokens = [*self.opening]
        for passage, share in zip(passages, shares([len(p) for p in passages], room), strict=True):
            tokens += self.passage
            tokens += passage[:share]
        tokens += tail
        return Prompt(tokens + closing, len(tokens))

    def overhead(self, passages: int = 1) -> int:
        """Return the number of tokens that are neither passage nor query nor answer."""
        frame = len(self.opening) + len(self.query) + len(self.answer) + 1
        return frame + passages * len(self.passage)


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """Divide `room` among texts of these lengths: equally, and what one leaves goes to the others.

    >>> shares([10, 2, 10], 12)
    [5, 2, 5]
    """
    given = [0] * len(lengths)
    for rank, place in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        given[place] = min(lengths[place], room // (len(lengths) - rank))
        room -= given[place]
    return given


# Prompts that embedding models were trained with but do not carry in their folders.
# Sources: the model cards of intfloat/e5-* and BAAI/bge-*.
_RETRIEVER_PROMPTS = (
    (re.compile(r"(^|[/_-])(multilingual-)?e5-(small|base|large)(-v2)?$"), "query: ", "passage: "),
    (
        re.compile(r"(^|[/_-])bge-(small|base|large)-en(-v1\.5)?$"),
        "Represent this sentence for searching relevant passages: ",
        "",
    ),
    (
        re.compile(r"(^|[/_-])bge-(small|base|large)-zh(-v1\.5)?$"),
        "为这个句子生成表示以用于检索相关文章：",
        "",
    ),
)


def retriever_prompts(name: str) -> tuple[str, str]:
    """Return the texts that an embedding model of this name wants before a query and a passage."""
    for pattern, query, passage in _RETRIEVER_PROMPTS:
        if pattern.search(name.rstrip("/")):
            return query, passage
    return "", ""


# FOLDED framing.py: A tokenizer in; the tokens that stand around passages, query and answer, out.

logger = logging.getLogger(__name__)


def frame_of(tokenizer: Any, plain: Template = PLAIN) -> tuple[Frame, str]:
    """Return the tokenizer's frame, and the blanks with which it has an answer begin.

    `plain` has the words; a chat model's own template goes around them.
    """
    template = _template(tokenizer, plain)
    opening = tokenizer(template.opening, add_special_tokens=False).input_ids
    if template is plain and (bos := leading_token(tokenizer)) is not None:
        opening = [bos, *opening]
    before_answer = template.answer.rstrip(" ")
    marks = tokenise(tokenizer, [template.passage, template.query, before_answer])
    passage, query, answer = (mark.tolist() for mark in marks)
    frame = Frame(opening, passage, query, answer, _end_token(tokenizer, template))
    return frame, template.answer[len(before_answer) :]


def _template(tokenizer: Any, plain: Template) -> Template:
    if not getattr(tokenizer, "chat_template", None):
        return plain
    try:
        found = chat(
            lambda messages: tokenizer.apply_chat_template(messages, tokenize=False), plain
        )
    except Exception as error:  # a template is a program of the model's makers
        logger.warning("the model's chat template failed (%s): using the plain prompt", error)
        return plain
    if found is None:
        logger.warning("the model's chat template changes its messages: using the plain prompt")
        return plain
    return found


def leading_token(tokenizer: Any) -> int | None:
    """Return BOS if this tokenizer puts it before a text."""
    ids = tokenizer("a").input_ids
    return (
        ids[0] if tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else None
    )


def _end_token(tokenizer: Any, template: Template) -> int:
    for token in tokenizer(template.end, add_special_tokens=False).input_ids:
        if token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder:
            return int(token)
    if tokenizer.eos_token_id is None:
        raise UserError("the generator's tokenizer has no EOS token, so no answer could ever end")
    return int(tokenizer.eos_token_id)


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the tokens of each text as they are after a line break, which every prompt has.

    Tokenised alone, a SentencePiece model would lose or double the blank before a word.
    """
    if not texts:
        return []
    options = {"add_special_tokens": False, "return_attention_mask": False}
    # The line break as an anchor; `verbose` silences "longer than the model": pieces are cut later.
    anchor = tokenizer("\n", **options).input_ids
    anchored = tokenizer([f"\n{text}" for text in texts], verbose=False, **options).input_ids
    rows = []
    for text, ids in zip(texts, anchored, strict=True):
        if ids[: len(anchor)] == anchor:
            rows.append(np.array(ids[len(anchor) :], np.int32))
        else:  # the line break merged with the text, as in text that begins with one
            rows.append(np.array(tokenizer(text, verbose=False, **options).input_ids, np.int32))
    return rows
