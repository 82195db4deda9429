"""Write a prompt template into a tokenizer's chat template, which reads passages as `documents`.

An exported generator answers in plain transformers, and in servers that read chat templates, with
the prompt that it was trained with:

    tokenizer.apply_chat_template(messages, documents=[{"title": "…", "text": "…"}, …],
                                  add_generation_prompt=True)

Without documents the rendering is that of the base's chat template. A base that has none gets the
prompt without passages. With `from_messages` plain messages are read as the prompt, too (see
`dalm.models.plain_messages`), and nothing else is rendered.

The text is the prompt's, and its tokens are those of `Frame.join` unless the tokenizer has tokens
across the border of two pieces: training tokenises the pieces separately, `apply_chat_template` the
whole text. GPT-2's and Llama 2's tokenizers have none in the default prompt; those of GPT-4,
Llama 3 and Qwen read a full stop and the line breaks after it as one token. That is logged.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from dalm.models import plain_messages
from dalm.models.chat_rendering import pin
from dalm.models.prompt_frame import FrameTexts, frame_of, leading_token, tokenise
from dalm.prompts import PromptTemplate

logger = logging.getLogger(__name__)

ChatTemplate = str | dict[str, str] | None
"""What a tokenizer has: one template, several by name, or none."""

_HEAD = "{# DALM: the passages of the prompt are the `documents` #}\n"
_BASE = "{# the chat template of the base: #}\n"
_END = "{{#+ end of the chat template of the base, without its last {} #}}"
"""Comments that mark the base's chat template; they render to nothing. Jinja skips the line break
after the first two, and `+` keeps blanks before the third. Jinja drops one line end at the end of a
template, and only there: it is noted in the comment."""
_LINE_ENDS = ("\r\n", "\n", "\r", "")
_GIVEN = "documents is defined and documents is not none"
_PROBES = (
    (("It opens at 9 bars.", "in Ulm"), "When does it open?"),
    (("in Ulm",), "Where"),
)
"""Passages and a question, with and without punctuation at the end."""
_NO_QUESTION = "documents need a user message: the question that is asked about them"
_ONE_QUESTION = "this prompt has one question: a user message, and the assistant's answer if known"


def with_documents(
    tokenizer: Any,
    template: PromptTemplate,
    texts: FrameTexts,
    date: datetime | None = None,
    *,
    from_messages: bool = False,
) -> str | dict[str, str]:
    """Return the tokenizer's chat template, with the prompt where documents are given.

    `tokenizer` has the base's chat template; `texts` are the template as the model reads it. Of the
    ways to write it the first one is taken that gives the tokens of the model's frame. A base that
    prints the date prints `date` with documents. With `from_messages` system messages are
    documents, too, and a user message may be the whole prompt.
    """
    own: ChatTemplate = tokenizer.chat_template
    base = own.get("default") if isinstance(own, dict) else own
    score = _scorer(tokenizer, template, texts, from_messages)
    pinned = "" if date is None else pin(date)
    ways = _candidates(tokenizer, template, texts, base, pinned, from_messages=from_messages)
    scores = {written: score(written) for written in ways}
    best = max(scores, key=scores.__getitem__)
    if not scores[best][1]:
        logger.info(
            "chat template: this tokenizer has tokens across the borders of texts, such as '.' "
            "with line breaks; apply_chat_template(documents=...) gives the prompt's text with "
            "other tokens at these borders"
        )
    return {**own, "default": best} if isinstance(own, dict) else best


def without_documents(chat_template: ChatTemplate) -> ChatTemplate:
    """Return the chat template that `with_documents` was given, from what it returned."""
    if isinstance(chat_template, dict):
        found = {name: without_documents(text) for name, text in chat_template.items()}
        return {name: text for name, text in found.items() if isinstance(text, str)} or None
    if chat_template is None or not chat_template.startswith(_HEAD):
        return chat_template
    _, begins, rest = chat_template.partition(_BASE)
    if not begins:
        return None
    for line_end in _LINE_ENDS:
        base, ends, _ = rest.rpartition(_END.format(_quoted(line_end)))
        if ends:
            return base + line_end
    return rest


def _ended(base: str) -> str:
    """Return the base's chat template as it is within another one, with the mark of its end."""
    line_end = next(end for end in _LINE_ENDS if base.endswith(end))
    return base.removesuffix(line_end) + _END.format(_quoted(line_end))


# How well a chat template renders the prompt


def _scorer(
    tokenizer: Any, template: PromptTemplate, texts: FrameTexts, from_messages: bool
) -> Callable[[str], tuple[int, bool, bool]]:
    """Return what counts the requests that have the frame's tokens, else compares their text.

    It returns the count, whether all have the tokens, and whether all have tokens or text.
    """
    frame, borders = frame_of(tokenizer, texts)
    forms: list[plain_messages.Form] = []
    expected: list[tuple[list[int], str]] = []
    for passages, query in _PROBES:
        read = [tokens.tolist() for tokens in tokenise(tokenizer, passages, borders.passage)]
        (asked,) = (tokens.tolist() for tokens in tokenise(tokenizer, [query], borders.query))
        tokens = frame.join(read, asked, None, 1_000_000).tokens
        found = plain_messages.forms(template, passages, query)
        if not from_messages:
            found = {"documents": found["documents"]}
        forms += found.values()
        expected += [(tokens, _text(texts, passages, query))] * len(found)

    def score(written: str) -> tuple[int, bool, bool]:
        try:
            rendered = [plain_messages.render(tokenizer, form, written) for form in forms]
        except Exception:  # the base's chat template is a program of its authors
            return -1, False, False
        ids = tokenizer(rendered, add_special_tokens=False).input_ids
        same_tokens = [row == tokens for row, (tokens, _) in zip(ids, expected, strict=True)]
        same_text = rendered == [text for _, text in expected]
        return sum(same_tokens), all(same_tokens), all(same_tokens) or same_text

    return score


def _text(texts: FrameTexts, passages: Sequence[str], query: str, blank: str = "") -> str:
    """Return a prompt's text up to where the answer begins."""
    mark, question = _spaced(texts.passage, blank), _spaced(texts.query, blank)
    read = "".join(f"{mark}{text}{texts.passage_end}" for text in passages)
    return f"{texts.opening}{read}{question}{query}{texts.answer.rstrip(' ')}"


# The ways to write it


def _candidates(
    tokenizer: Any,
    template: PromptTemplate,
    texts: FrameTexts,
    base: str | None,
    pinned: str,
    *,
    from_messages: bool,
) -> Iterator[str]:
    """Yield chat templates that may render the frame, the most natural first.

    Some tokenizers put a blank before each text of its own, and so before each piece of a prompt,
    but not within a whole text: there the blank is written.
    """
    reading = plain_messages.reading(template) if from_messages else ""
    if texts.is_chat:
        assert base is not None
        for blank in ("", " "):
            yield _rewritten(
                tokenizer, template, texts, base, blank, pinned=pinned, reading=reading
            )
    bos = "" if texts.is_chat or leading_token(tokenizer) is None else tokenizer.bos_token
    end = texts.end or tokenizer.eos_token
    for blank in ("", " "):
        for first in ("", " "):
            spelled = _spelled_out(
                template, texts, f"{bos}{first}", end, blank, whole=from_messages
            )
            head = _HEAD + reading
            yield head + (spelled if base is None else _beside(spelled, base))


def _rewritten(
    tokenizer: Any,
    template: PromptTemplate,
    texts: FrameTexts,
    base: str,
    blank: str,
    *,
    pinned: str,
    reading: str,
) -> str:
    """Put the passages into the last user message, and leave the rendering to the base.

    Conversations and system messages stay what they are. What the frame has between the base's
    generation prompt and the answer, such as an empty block of thoughts, is appended.
    """
    mark, mark_end = template.around_passage
    question, question_end = template.around_question
    whole = "{%- if whole %}{%- set dalm.text = messages[dalm.place]['content'] %}{%- endif %}\n"
    head = f"""{_HEAD}{reading}\
{{%- if {_GIVEN} %}}{pinned}
{{%- set dalm = namespace(text={_quoted(template.instruction)}, place=-1) %}}
{{%- for document in documents %}}
{{%- set dalm.text = dalm.text ~ {_quoted(_spaced(mark, blank))} ~ document['text'] %}}
{{%- set dalm.text = dalm.text ~ {_quoted(mark_end)} %}}
{{%- endfor %}}
{{%- for message in messages %}}
{{%- if message['role'] == 'user' %}}{{%- set dalm.place = loop.index0 %}}{{%- endif %}}
{{%- endfor %}}
{{%- if dalm.place < 0 %}}{{{{- raise_exception({_quoted(_NO_QUESTION)}) }}}}{{%- endif %}}
{{%- set dalm.text = dalm.text ~ {_quoted(_spaced(question, blank))} %}}
{{%- set dalm.text = dalm.text ~ messages[dalm.place]['content'] ~ {_quoted(question_end)} %}}
{whole if reading else ""}\
{{%- set asked = [{{'role': 'user', 'content': dalm.text}}] %}}
{{%- set messages = messages[:dalm.place] + asked + messages[dalm.place + 1:] %}}
{{%- endif %}}
{_BASE}"""
    passages, query = _PROBES[0]
    form = plain_messages.forms(template, passages, query)["documents"]
    try:
        rendered = plain_messages.render(tokenizer, form, head + base)
    except Exception:  # it will be scored as one that fails
        return head + base
    wanted = _text(texts, passages, query, blank)
    missing = wanted.removeprefix(rendered)
    if missing in ("", wanted):
        return head + base
    tail = f"{{% if {_GIVEN} and add_generation_prompt %}}{{{{ {_quoted(missing)} }}}}{{% endif %}}"
    return f"{head}{_ended(base)}{tail}"


def _spelled_out(
    template: PromptTemplate, texts: FrameTexts, first: str, end: str, blank: str, *, whole: bool
) -> str:
    """Write the frame itself: one question, and its answer if there is one.

    With `whole` the user message may be the prompt from the instruction to the question's end.
    """

    def text(usual: str, in_whole: str) -> str:
        if not whole or usual == in_whole:
            return _quoted(usual)
        return f"({_quoted(in_whole)} if whole else {_quoted(usual)})"

    mark = _quoted(_spaced(texts.passage, blank))
    opening = text(first + texts.opening, first + texts.opening.removesuffix(template.instruction))
    question = text(_spaced(texts.query, blank), "")
    closing = texts.answer.removeprefix(template.around_question[1])
    answer = text(_spaced(texts.answer, blank), _spaced(closing, blank))
    prompted = text(texts.answer.rstrip(" "), closing.rstrip(" "))
    return f"""\
{{%- if messages | map(attribute='role') | join(' ') not in ['user', 'user assistant'] %}}
{{{{- raise_exception({_quoted(_ONE_QUESTION)}) }}}}
{{%- endif %}}
{{{{- {opening} }}}}
{{%- for document in documents or [] %}}
{{{{- {mark} ~ document['text'] ~ {_quoted(texts.passage_end)} }}}}
{{%- endfor %}}
{{{{- {question} ~ messages[0]['content'] }}}}
{{%- if messages | length == 2 %}}
{{{{- {answer} ~ messages[1]['content'] ~ {_quoted(end)} }}}}
{{%- elif add_generation_prompt %}}
{{{{- {prompted} }}}}
{{%- endif %}}"""


def _beside(spelled: str, base: str) -> str:
    """Render the frame where documents are given, and the base's chat template elsewhere."""
    return f"{{%- if {_GIVEN} %}}\n{spelled}\n{{%- else %}}\n{_BASE}{_ended(base)}{{% endif %}}"


def _spaced(mark: str, blank: str) -> str:
    """Add the blank of the tokenizer to a mark that has none of its own."""
    return mark if mark.endswith(" ") else mark + blank


def _quoted(text: str) -> str:
    """Return text as a literal of Jinja, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
