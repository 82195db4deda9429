"""Render a model's own chat template: within limits, and at the date of the training.

A chat template is a program of the model's authors. It is run once in a process of its own, where a
loop without end costs seconds and not the run, before it is rendered here.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from dalm.errors import reason_of

CPU_SECONDS = 5
SECONDS = 60
"""Time on the clock for what takes `CPU_SECONDS`, on a machine that does much else."""
MEGABYTES = 1024

_TRIAL = """\
import sys
import jinja2, jinja2.sandbox
from jinja2 import nodes
from jinja2.ext import Extension
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
    resource.setrlimit(resource.RLIMIT_AS, ({bytes}, {bytes}))
except ImportError:
    pass
class Generation(Extension):
    tags = {{"generation"}}
    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)
def fail(message):
    raise jinja2.TemplateError(message)
user, assistant, system = (
    {{"role": role, "content": "text"}} for role in ("user", "assistant", "system")
)
conversations = ([user, assistant], [user], [system, user], [user, assistant, user])
environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
)
environment.globals.update(raise_exception=fail, strftime_now=lambda form: form)
source = sys.stdin.buffer.read().decode()
try:
    template = environment.from_string(source)
except MemoryError:
    sys.exit(3)
except Exception:
    sys.exit(0)
for messages in conversations:
    for prompted in (False, True):
        try:
            template.render(
                messages=messages, add_generation_prompt=prompted, bos_token="", eos_token="",
                tools=None, documents=None,
            )
        except MemoryError:
            sys.exit(3)
        except Exception:
            pass
"""


class ChatTemplateError(Exception):
    """A chat template that can't be rendered; the message is the reason, in one line."""


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    date: datetime | None = None,
    **options: Any,
) -> str:
    """Return a conversation as the tokenizer's chat template writes it, today or on `date`.

    Raises:
        ChatTemplateError: it can't be rendered, or not within the limits.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str):
        raise ChatTemplateError("it has no default template")
    if (excess := _excess(template)) is not None:
        raise ChatTemplateError(excess)
    if date is not None:
        template = pinned(template, date)
    try:
        return str(
            tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=template,
                tokenize=False,
                **options,
            )
        )
    except Exception as error:  # a program may raise anything
        raise ChatTemplateError(reason_of(error)) from error


@lru_cache(maxsize=64)
def _excess(template: str) -> str | None:
    """Run a template in a process of its own; return which limit it exceeds, if any."""
    program = _TRIAL.format(seconds=CPU_SECONDS, bytes=MEGABYTES * 2**20)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=template.encode("utf-8", "surrogatepass"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {SECONDS} seconds"
    if done.returncode == 3:
        return f"it needs more than {MEGABYTES} MB"
    return f"it takes more than {CPU_SECONDS} seconds" if done.returncode < 0 else None


# The date

_DIRECTIVES = "aAwdbBmyYHIpMSfjUWcxXGuVeDFTRhklsnt"
_BEFORE = datetime(2001, 2, 3, 4, 5, 6, 7)
"""Another day, month, year and time than any of a training."""
_PROBE = ({"role": "user", "content": "text"}, {"role": "assistant", "content": "text"})


def prints_date(tokenizer: Any, date: datetime) -> bool:
    """Return whether the chat template's text depends on the date.

    Raises:
        ChatTemplateError: it can't be rendered.
    """
    return render(tokenizer, _PROBE, date=date) != render(tokenizer, _PROBE, date=_BEFORE)


def is_random(tokenizer: Any, date: datetime | None) -> bool:
    """Return whether the chat template's text differs from one rendering to the next."""
    return len({render(tokenizer, _PROBE, date=date) for _ in range(8)}) > 1


def pinned(template: str, date: datetime) -> str:
    """Return a chat template that takes `date` for today."""
    return f"{pin(date)}\n{template}"


def pin(date: datetime) -> str:
    """Return the macro that stands in for transformers' `strftime_now`, which renders to nothing.

    It replaces each directive of the format, such as `%d`, by its value.
    """
    values = {f"%-{letter}": f"%{letter}" for letter in "dmHIMSjy"}
    found = {spelled: _unpadded(date.strftime(form)) for spelled, form in values.items()}
    found |= {f"%{letter}": date.strftime(f"%{letter}") for letter in _DIRECTIVES}
    replaced = "".join(
        f".replace({_quoted(spelled)}, {_quoted(value)})" for spelled, value in found.items()
    )
    percent = ".replace('%%', '\\x00')"
    return (
        "{%- macro strftime_now(format) %}"
        f"{{{{- format{percent}{replaced}.replace('\\x00', '%') }}}}"
        "{%- endmacro %}"
    )


def _unpadded(number: str) -> str:
    return re.sub(r"^0+(?=\d)", "", number)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
