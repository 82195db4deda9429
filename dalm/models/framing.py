"""A tokenizer in; the tokens that stand around passages, query and answer, out."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from dalm import prompts
from dalm.errors import UserError

logger = logging.getLogger(__name__)


def frame_of(tokenizer: Any, plain: prompts.Template = prompts.PLAIN) -> tuple[prompts.Frame, str]:
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
    frame = prompts.Frame(opening, passage, query, answer, _end_token(tokenizer, template))
    return frame, template.answer[len(before_answer) :]


def _template(tokenizer: Any, plain: prompts.Template) -> prompts.Template:
    if not getattr(tokenizer, "chat_template", None):
        return plain
    try:
        found = prompts.chat(
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


def _end_token(tokenizer: Any, template: prompts.Template) -> int:
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
