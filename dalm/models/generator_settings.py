"""Write and read dalm.json: what a generator's folder holds beside transformers' files."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from dalm import artifacts
from dalm.errors import UserError
from dalm.prompts import DEFAULT, PromptTemplate, read_prompt, template_from

logger = logging.getLogger(__name__)

FILE = "dalm.json"
_REMEDY = "export the model again, or copy the file from where it was trained"


@dataclass(frozen=True)
class GeneratorSettings:
    """The settings that a generator was trained with; None where nothing is known."""

    max_length: int | None = None
    """Tokens of a prompt with its answer."""
    reader_passages: int = 1
    """Passages in a prompt."""
    template: PromptTemplate | None = None

    def write(self, folder: Path) -> None:
        """Write them into a model's folder."""
        content = {
            "generator_max_len": self.max_length,
            "reader_passages": self.reader_passages,
            "prompt": asdict(self.template or DEFAULT),
        }
        artifacts.write_json(folder / FILE, content)


def saved_settings(name: str, adapter: str | None = None) -> GeneratorSettings:
    """Return what training wrote beside the adapter, else beside the model.

    Raises:
        UserError: it is damaged.
    """
    for folder in (adapter, name):
        if folder is not None and (file := Path(folder) / FILE).is_file():
            return _read(file)
    return GeneratorSettings()


def _read(file: Path) -> GeneratorSettings:
    content = artifacts.read_json(file, _REMEDY)
    for key in ("generator_max_len", "reader_passages"):
        if type(number := content.get(key, 1)) is not int or number < 1:
            raise UserError(f"{file} is damaged ({key} is {number!r:.60}); {_REMEDY}")
    # Earlier versions wrote no prompt: it was the default one.
    prompt = content.get("prompt", asdict(DEFAULT))
    if not isinstance(prompt, dict):
        raise UserError(f"{file} is damaged (prompt is {prompt!r:.60}); {_REMEDY}")
    return GeneratorSettings(
        content.get("generator_max_len"),
        content.get("reader_passages", 1),
        template_from(prompt, f"{file} is damaged: prompt"),
    )


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
