"""Check, load and name the models that an evaluation's config asks for."""

import logging
from dataclasses import replace

from dalm import distributed, prompts
from dalm.config import EvalRag, EvalRetriever
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.eval.evaluation_output import EvaluationOutput
from dalm.models.generator import load_generator
from dalm.models.loading import check_model_is_there, place
from dalm.models.retriever import Retriever, retriever_from_config
from dalm.rag.pipeline import LocalReader, ServedGenerator, served_model_of

logger = logging.getLogger(__name__)


def check_models(config: EvalRetriever, answers: EvalRag | None) -> None:
    """Refuse models that can't be found or don't fit together, before the first one loads.

    `answers` is the config if answers are evaluated.

    Raises:
        UserError: names the option.
    """
    names = {"retriever": [config.retriever_name_or_path, config.baseline]}
    if answers is not None:
        _check_generator(answers)
        names["generator"] = [answers.generator_name_or_path, answers.baseline_generator]
    for role, models in names.items():
        for model in filter(None, models):
            check_model_is_there(model, role)


def load_retriever(config: EvalRetriever, name: str, adapter: str | None = None) -> Retriever:
    """Load a retriever, with its own lengths and prompts unless the config has others."""
    return retriever_from_config(config, name, place(config.device, config.precision), adapter)


def load_reader(
    config: EvalRag, name: str, adapter: str | None, max_length: int | None
) -> LocalReader:
    """Load a generator with its own prompt and length unless the config has others."""
    placement = replace(place(config.device, config.precision), frozen=True)
    generator = load_generator(
        name, placement, adapter=adapter, max_length=max_length, prompt=config.prompt
    )
    if config.citations:
        generator.ask_for_citations()
    passages = config.reader_passages or generator.reader_passages
    return LocalReader(generator, passages, config.max_new_tokens)


def _check_generator(config: EvalRag) -> None:
    """Refuse no generator and two generators, and a prompt file that isn't one."""
    local, served = config.generator_name_or_path, config.generator_url
    if local is None and served is None:
        raise UserError(
            "--evaluate-generator needs a generator: --generator-name-or-path, or --generator-url"
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


def served_reader(config: EvalRag, output: EvaluationOutput) -> ServedGenerator:
    """Return the generator on a server; its replies are kept where `output` says.

    The prompt is `--prompt`'s, or the default one: a server doesn't say what its model was trained
    with.
    """
    template = prompts.read_prompt(config.prompt) if config.prompt else prompts.DEFAULT
    template = template.for_citations() if config.citations else template
    logger.info("NLL        not measured: a server gives no log-probabilities of a reference")
    return ServedGenerator(
        served_model_of(config, config.max_new_tokens, output.resume),
        template.user_message,
        output.journal(f"generator{distributed.rank() or ''}.jsonl"),
        reader_passages=config.reader_passages or 1,
        cites=config.citations,
    )


def system_name(config: EvalRetriever, answers: EvalRag | None) -> str:
    """Return the name of the evaluated system in the results."""
    found = config.retriever_peft_model_path or config.retriever_name_or_path
    if answers is None:
        return found
    return f"{found} + {answers.generator_peft_model_path or _generator_name(answers)}"


def baseline_name(config: EvalRetriever, answers: EvalRag | None) -> str:
    """Return the name of the baseline in the results."""
    found = config.baseline or config.retriever_name_or_path
    if answers is None:
        return found
    return f"{found} + {answers.baseline_generator or _generator_name(answers)}"


def _generator_name(config: EvalRag) -> str:
    if config.generator_url is not None:
        return f"{config.generator_model} ({config.generator_url})"
    return str(config.generator_name_or_path)
