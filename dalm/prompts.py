"""Define prompt templates, the texts around passages, question and answer, and save them.

A generator's prompt is made of an instruction, its passages, a question and the place where the
answer begins. Which words these have is a `PromptTemplate`: the default one, one that the user
chose with `--prompt FILE`, or the one in the folder of a trained generator. How a template becomes
tokens is in `dalm.models.prompt_frame`; the prompts that ask a model to write questions are in
`dalm.synth.question_prompts`.
"""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dalm import artifacts, file_reading
from dalm.errors import UserError
from dalm.file_reading import user_path

logger = logging.getLogger(__name__)

Message = dict[str, str]

INSTRUCTION = "Answer the question from the passage."
CITE = (
    "Answer the question from the passages. After each statement give the numbers of the passages "
    "that support it, as in [1]."
)
"""Default instruction where citations are asked for; no model is trained with it."""
STATE = "Write a statement that the passage supports."
"""In place of a question, where a sentence of the knowledge base is to be written."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    r"""The texts of a generator's prompt; `PromptTemplate()` is the default.

    Raises:
        ValueError: a placeholder is missing, there twice, or in a field that has none.
    """

    instruction: str = INSTRUCTION
    """What the prompt begins with."""
    passage: str = "\n\nPassage:\n{passage}"
    """Each passage; `{passage}` is its text."""
    question: str = "\n\nQuestion:\n{question}"
    """The question; `{question}` is its text."""
    answer: str = "\n\nAnswer:\n"
    """Before the answer; a chat model's own start of the assistant's turn takes its place."""
    citations: str = CITE
    """In place of the instruction where passages are numbered and citations asked for."""

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            for placeholder in ("passage", "question"):
                count, wanted = text.count(f"{{{placeholder}}}"), int(name == placeholder)
                if count != wanted:
                    times = "exactly once" if wanted else "only in the field of that name"
                    raise ValueError(
                        f"{name} has {{{placeholder}}} {count} times; it must appear {times}"
                    )

    @property
    def around_passage(self) -> tuple[str, str]:
        """The texts before and after each passage."""
        before, _, after = self.passage.partition("{passage}")
        return before, after

    @property
    def around_question(self) -> tuple[str, str]:
        """The texts before and after the question."""
        before, _, after = self.question.partition("{question}")
        return before, after

    def user_message(self, query: str, passages: Sequence[str]) -> str:
        """Return what a chat model reads in the user's turn; `answer` is no part of it."""
        before, after = self.around_passage
        read = "".join(f"{before}{text}{after}" for text in passages)
        before, after = self.around_question
        return f"{self.instruction}{read}{before}{query}{after}"

    def for_citations(self) -> "PromptTemplate":
        """Return the template that asks for citations; its passages should be `numbered`."""
        return replace(self, instruction=self.citations)


DEFAULT = PromptTemplate()
MARKS = (INSTRUCTION, DEFAULT.around_passage[0], DEFAULT.around_question[0], DEFAULT.answer)
"""Texts of every default prompt: a tokenizer trained on a corpus is given them with each text, so
that their words are a token each."""
_FIELDS = tuple(field.name for field in fields(PromptTemplate))
_REMEDY = f"a prompt has the fields {', '.join(_FIELDS)}; see docs/prompts.md"


def read_prompt(file: str | Path) -> PromptTemplate:
    """Read the template that a user chose with `--prompt`, a YAML file with a line for each field.

    Raises:
        UserError: no such file, not UTF-8, not YAML, or not a template's fields.
    """
    try:
        content = file_reading.read_yaml(user_path(file), _REMEDY)
    except file_reading.DamagedError as error:
        raise UserError(f"--prompt: {error}") from error
    return template_from(content, f"--prompt {file}")


def template_from(content: Mapping[str, Any], where: str) -> PromptTemplate:
    """Return the template with these fields; `where` begins the errors.

    `citations` may be left out; the other fields are the prompt and have no defaults in a file.

    Raises:
        UserError: a field is missing, unknown or no text, or a placeholder is misplaced.
    """
    for name in content:
        if name not in _FIELDS:
            raise UserError(f"{where}: unknown field {name!r}; {_REMEDY}")
    for name in _FIELDS:
        if name not in content and name != "citations":
            raise UserError(f"{where}: no field {name!r}; {_REMEDY}")
    for name, text in content.items():
        _check_text(text, f"{where}: {name}")
    try:
        return PromptTemplate(**content)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _check_text(text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise UserError(f'{where} is {text!r:.60}, not text; put text in quotes, "" for none')
    if (found := re.search("[\ud800-\udfff]", text)) is not None:
        raise UserError(f"{where} has the unpaired surrogate {found[0]!a}; remove it")


def describe(template: PromptTemplate) -> str:
    """Return the template as Markdown for a model card, in the form that `--prompt` reads."""
    lines = [
        f"{name}: {json.dumps(text, ensure_ascii=False)}"  # JSON's quoted strings are YAML's
        for name, text in asdict(template).items()
    ]
    return "\n".join(["```yaml", *lines, "```"])


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt with its answer: the answer's tokens are `tokens[answer_start:]`."""

    tokens: list[int]
    answer_start: int

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.tokens)


def numbered(texts: Sequence[str]) -> list[str]:
    """Return a prompt's passages with their numbers, from 1, as citations name them."""
    return [f"[{number}] {text}" for number, text in enumerate(texts, start=1)]


# The settings in a generator's folder

SETTINGS_FILE = "dalm.json"
_EXPORT_AGAIN = "export the model again, or copy the file from where it was trained"


@dataclass(frozen=True)
class GeneratorSettings:
    """The settings that a generator was trained with; None where nothing is known."""

    max_length: int | None = None
    """Tokens of a prompt with its answer."""
    reader_passages: int = 1
    """Passages in a prompt."""
    template: PromptTemplate | None = None
    date: datetime | None = None
    """The date of the training, if the chat template prints one."""

    def write(self, folder: Path) -> None:
        """Write them into a model's folder."""
        content: dict[str, Any] = {
            "generator_max_len": self.max_length,
            "reader_passages": self.reader_passages,
            "prompt": asdict(self.template or DEFAULT),
        }
        if self.date is not None:
            content["date"] = self.date.isoformat()
        artifacts.write_json(folder / SETTINGS_FILE, content)


def saved_settings(name: str, adapter: str | None = None) -> GeneratorSettings:
    """Return what training wrote beside the adapter, else beside the model.

    Raises:
        UserError: it is damaged.
    """
    files = [Path(folder) / SETTINGS_FILE for folder in (adapter, name) if folder is not None]
    file = next(filter(os.path.lexists, files), None)
    if file is None:
        return GeneratorSettings()
    content = file_reading.read_json(file, _EXPORT_AGAIN)
    for key in ("generator_max_len", "reader_passages"):
        if type(number := content.get(key, 1)) is not int or number < 1:
            raise UserError(f"{file} is damaged ({key} is {number!r:.60}); {_EXPORT_AGAIN}")
    # Earlier versions wrote no prompt: it was the default one.
    prompt = content.get("prompt", asdict(DEFAULT))
    if not isinstance(prompt, dict):
        raise UserError(f"{file} is damaged (prompt is {prompt!r:.60}); {_EXPORT_AGAIN}")
    return GeneratorSettings(
        content.get("generator_max_len"),
        content.get("reader_passages", 1),
        template_from(prompt, f"{file} is damaged: prompt"),
        _date(content.get("date"), file),
    )


def _date(saved: Any, file: Path) -> datetime | None:
    try:
        return None if saved is None else datetime.fromisoformat(saved)
    except (TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged (date is {saved!r:.60}); {_EXPORT_AGAIN}") from error


def choose_template(file: str | None, own: PromptTemplate | None) -> PromptTemplate:
    """Return the template in the user's file, else the model's own, else the default.

    Raises:
        UserError: the file has no template.
    """
    if file is None:
        return own or DEFAULT
    template = read_prompt(file)
    if own is None:
        logger.info("prompt     %s", file)
    elif template != own:
        logger.info("prompt     %s instead of the model's own", file)
    return template
