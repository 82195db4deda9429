"""Let a chat template read the prompt from the plain messages that every client can send.

Servers of the chat completions protocol take messages, and few of them transformers' `documents`.
The chat template of `dalm export` reads the same prompt from any of

- `documents` with the passages, and a user message with the question,
- system messages, one for each passage, and a user message with the question,
- a user message that is the whole prompt, as `PromptTemplate.user_message` writes it.
"""

import json
from collections.abc import Sequence
from typing import Any

from dalm.prompts import Message, PromptTemplate

Form = tuple[list[Message], list[Message] | None]
"""Messages and documents of a request."""
_TWICE = (
    "the user message is a whole prompt with its passages: leave out system messages and documents"
)


def forms(template: PromptTemplate, passages: Sequence[str], query: str) -> dict[str, Form]:
    """Return every form of the request for an answer to `query` from `passages`."""
    question: Message = {"role": "user", "content": query}
    system: list[Message] = [{"role": "system", "content": text} for text in passages]
    whole: Message = {"role": "user", "content": template.user_message(query, passages)}
    return {
        "documents": ([question], [{"title": "", "text": text} for text in passages]),
        "system messages": ([*system, question], None),
        "one user message": ([whole], None),
    }


def render(tokenizer: Any, form: Form, chat_template: str | None = None) -> str:
    """Return the text of a request as a server renders it."""
    messages, documents = form
    rendered: str = tokenizer.apply_chat_template(
        messages,
        documents=documents,
        chat_template=chat_template,
        add_generation_prompt=True,
        tokenize=False,
    )
    return rendered


def tokens(tokenizer: Any, form: Form) -> list[int]:
    """Return the tokens of a request as a server renders it."""
    messages, documents = form
    found: list[int] = tokenizer.apply_chat_template(
        messages, documents=documents, add_generation_prompt=True
    )["input_ids"]
    return found


def reading(template: PromptTemplate) -> str:
    """Return Jinja that sets `documents`, `messages` and `whole` from any form.

    It is written for the interpreters of servers, which know fewer of Python's methods.
    """
    marks = (template.around_passage[0], template.around_question[0])
    starts = [
        f"{instruction}{mark}"
        for instruction in (template.instruction, template.citations)
        for mark in marks
    ]
    return f"""\
{{%- set read = namespace(documents=[], messages=[], asked='', whole=false) %}}
{{%- if documents is defined and documents is not none %}}
{{%- set read.documents = documents %}}{{%- set read.messages = messages %}}
{{%- else %}}
{{%- for message in messages %}}
{{%- if message['role'] not in ['system', 'developer'] %}}
{{%- set read.messages = read.messages + [message] %}}
{{%- elif message['content'] %}}
{{%- set read.documents = read.documents + [{{'text': message['content']}}] %}}
{{%- endif %}}
{{%- endfor %}}
{{%- endif %}}
{{%- for message in read.messages %}}
{{%- if message['role'] == 'user' %}}{{%- set read.asked = message['content'] %}}{{%- endif %}}
{{%- endfor %}}
{{%- for start in {json.dumps([*dict.fromkeys(filter(None, starts))], ensure_ascii=False)} %}}
{{%- if read.asked[:start | length] == start %}}{{%- set read.whole = true %}}{{%- endif %}}
{{%- endfor %}}
{{%- if read.whole and read.documents %}}
{{{{- raise_exception({json.dumps(_TWICE)}) }}}}
{{%- endif %}}
{{%- set documents = read.documents %}}{{%- set messages = read.messages %}}
{{%- set whole = read.whole %}}
"""
