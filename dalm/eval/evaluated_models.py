"""Check, load and name the models that an evaluation's config asks for."""

import logging
from dataclasses import replace

from dalm import distributed, prompts
from dalm.config import EvalRag, EvalRetriever
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.eval.evaluation_output import EvaluationOutput
from dalm.models import generator_checks
from dalm.models.generator import load_generator
from dalm.models.loading import check_model_is_there, placement_of, tell
from dalm.models.retriever import Retriever, retriever_from_config
from dalm.rag.pipeline import LocalReader, Reader, ServedGenerator, served_model_of

logger = logging.getLogger(__name__)


class EvaluatedModels:
    """The retriever and the generator of the evaluated system, and those of its baseline.

    `answers` is the config of generator and answers; None if only the retriever is evaluated.
    """

    def __init__(self, config: EvalRetriever, output: EvaluationOutput) -> None:
        self.config, self.output = config, output
        self.answers: EvalRag | None = None
        if isinstance(config, EvalRag) and config.evaluate_generator:
            self.answers = config

    def check(self) -> None:
        """Refuse models that can't be found or don't fit together, before the first one loads.

        Raises:
            UserError: names the option.
        """
        names = {"retriever": [self.config.retriever_name_or_path, self.config.baseline]}
        if self.answers is not None:
            _check_generator(self.answers)
            generators = [self.answers.generator_name_or_path, self.answers.baseline_generator]
            names["generator"] = generators
        for role, models in names.items():
            for model in filter(None, models):
                check_model_is_there(model, role)

    def retriever(self) -> Retriever:
        """Load the retriever, with its own lengths and prompts unless the config has others."""
        config, adapter = self.config, self.config.retriever_peft_model_path
        placement = placement_of(config)
        return retriever_from_config(config, config.retriever_name_or_path, placement, adapter)

    def baseline_retriever(self, tuned: Retriever) -> Retriever:
        """Load the baseline; its maximum lengths are those of the tuned retriever."""
        assert self.config.baseline is not None
        query, passage = tuned.sides["query"], tuned.sides["passage"]
        config = replace(self.config, query_max_len=query.max_len, passage_max_len=passage.max_len)
        placement = placement_of(config)
        return retriever_from_config(config, self.config.baseline, placement)

    def reader(self) -> Reader | None:
        """Load the generator as it was trained, or name it on its server; None without answers."""
        config = self.answers
        if config is None:
            logger.info("only the retriever is evaluated; --evaluate-generator adds the answers")
            return None
        if config.generator_url is not None:
            return _served_reader(config, self.output)
        assert config.generator_name_or_path is not None
        adapter, length = config.generator_peft_model_path, config.generator_max_len
        return _load_reader(config, config.generator_name_or_path, adapter, length)

    def baseline_reader(self, tuned: Reader) -> Reader:
        """Load the baseline's generator; its maximum length is that of the tuned one."""
        config = self.answers
        assert config is not None
        assert config.baseline_generator is not None
        length = config.generator_max_len
        if isinstance(tuned, LocalReader):
            length = tuned.generator.max_length
        return _load_reader(config, config.baseline_generator, None, length)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the evaluated system and of the baseline in the results."""
        config, answers = self.config, self.answers
        tuned = config.retriever_peft_model_path or config.retriever_name_or_path
        baseline = config.baseline or config.retriever_name_or_path
        if answers is None:
            return tuned, baseline
        generator = str(answers.generator_name_or_path)
        if answers.generator_url is not None:
            generator = f"{answers.generator_model} ({answers.generator_url})"
        return (
            f"{tuned} + {answers.generator_peft_model_path or generator}",
            f"{baseline} + {answers.baseline_generator or generator}",
        )


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


def _load_reader(
    config: EvalRag, name: str, adapter: str | None, max_length: int | None
) -> LocalReader:
    """Load a generator with its own prompt and length unless the config has others."""
    placement = replace(placement_of(config), frozen=True)
    generator = load_generator(
        name, placement, adapter=adapter, max_length=max_length, prompt=config.prompt
    )
    tell("generator", adapter or name, generator_checks.description(generator))
    if config.citations:
        generator.ask_for_citations()
    passages = config.reader_passages or generator.reader_passages
    return LocalReader(generator, passages, config.max_new_tokens)


def _served_reader(config: EvalRag, output: EvaluationOutput) -> ServedGenerator:
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
