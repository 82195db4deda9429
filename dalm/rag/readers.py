"""Load the generator that a command's options name, here or on a server."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from dalm import prompts
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.llm.local_model import LocalModel
from dalm.models import generator_checks
from dalm.models.generator import load_generator
from dalm.models.loading import placement_of, tell
from dalm.rag.pipeline import LocalReader, ServedGenerator, served_model_of

REWRITTEN_TOKENS = 96
"""Length of a rewritten question at most."""
PASSAGES, TOKENS = 4, 4096
"""What a generator that was not trained here reads in use: passages, and tokens of prompt and
answer, if its window is no smaller."""


def check_generator(config: Any, needed_by: str) -> None:
    """Refuse no generator and two generators, and a prompt file that isn't one.

    Raises:
        UserError: names the options; `needed_by` is what needs a generator.
    """
    local, served = config.generator_name_or_path, config.generator_url
    if local is None and served is None:
        raise UserError(
            f"{needed_by} needs a generator: --generator-name-or-path, or --generator-url"
        )
    if local is not None and served is not None:
        raise UserError(
            "--generator-name-or-path and --generator-url are two generators; leave one of them out"
        )
    if served is not None:
        served_model_of(config, config.max_new_tokens)
        for option in ("generator_peft_model_path", "generator_max_len"):
            if getattr(config, option) is not None:
                raise UserError(
                    f"{spelled(option)} has no effect with --generator-url; leave it out"
                )
    if config.prompt is not None:
        prompts.read_prompt(config.prompt)


def load_reader(
    config: Any, name: str, adapter: str | None, max_length: int | None, *, in_use: bool = False
) -> LocalReader:
    """Load a generator with its own prompt and length unless the config has others.

    Without either, one `in_use` reads `PASSAGES` within `TOKENS`; evaluation keeps the defaults of
    training, for comparison.
    """
    placement = replace(placement_of(config), frozen=True)
    generator = load_generator(
        name,
        placement,
        adapter=adapter,
        max_length=max_length,
        prompt=config.prompt,
        passages=config.reader_passages,
    )
    passages = generator.reader_passages
    if in_use and prompts.saved_settings(name, adapter).template is None:
        passages = PASSAGES
        if max_length is None:
            generator.max_length = min(TOKENS, generator.longest or TOKENS)
    tell("generator", adapter or name, generator_checks.description(generator))
    if config.citations:
        generator.ask_for_citations()
    return LocalReader(generator, config.reader_passages or passages, config.max_new_tokens)


def served_reader(
    config: Any,
    journal: Path | None = None,
    resume: str = "the same command",
    *,
    in_use: bool = False,
) -> ServedGenerator:
    """Return the generator on a server; its replies are kept in the journal.

    The prompt is `--prompt`'s, or the default one: a server doesn't say what its model was trained
    with.
    """
    template = prompts.read_prompt(config.prompt) if config.prompt else prompts.DEFAULT
    template = template.for_citations() if config.citations else template
    return ServedGenerator(
        served_model_of(config, config.max_new_tokens, resume),
        template.user_message,
        journal,
        reader_passages=config.reader_passages or (PASSAGES if in_use else 1),
        cites=config.citations,
    )


def rewriter_of(reader: LocalReader, name: str) -> LocalModel | None:
    """Return the local generator as a model that follows instructions; None if it isn't one.

    A generator that was trained here reads its own prompt only.
    """
    trained = prompts.saved_settings(name).template is not None
    if trained or not getattr(reader.generator.tokenizer, "chat_template", None):
        return None
    return LocalModel(reader.generator, name, REWRITTEN_TOKENS)
