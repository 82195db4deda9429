"""Check, load and name the models that an evaluation's config asks for."""

import logging
from functools import cached_property, partial
from pathlib import Path

from dalm.config import EvalRag, EvalRetriever
from dalm.errors import check_all
from dalm.eval.answer_journal import AnswerJournal
from dalm.eval.cached_reader import CachedReader
from dalm.eval.evaluation_output import EvaluationOutput
from dalm.eval.searched_index import SearchedIndex, check_search_index
from dalm.models.loading import check_model_is_there, placement_of
from dalm.models.reranker import Reranker
from dalm.models.reranker_checks import check_is_there
from dalm.models.retriever import Retriever, retriever_from_config
from dalm.rag.pipeline import LocalReader, Reader, ServedGenerator
from dalm.rag.readers import check_generator, load_reader, served_reader
from dalm.retrieval.index_folder import IndexFolder
from dalm.retrieval.reranking import reranker_of

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
        checks = [partial(check_search_index, self.config)]
        if self.answers is not None:
            checks.append(partial(check_generator, self.answers, "--evaluate-generator"))
        check_all(*checks)
        if self.config.search_index is not None:
            IndexFolder(self.config.search_index).complete_pointer()
        names = {"retriever": [self.config.retriever_name_or_path, self.config.baseline]}
        if self.answers is not None:
            generators = [self.answers.generator_name_or_path, self.answers.baseline_generator]
            names["generator"] = generators
        for role, models in names.items():
            for model in filter(None, models):
                check_model_is_there(model, role)
        if self.config.reranker is not None:
            check_is_there(self.config.reranker)

    def retriever(self) -> Retriever | SearchedIndex:
        """Load the retriever, with its own lengths and prompts unless the config has others.

        With `--search-index` the index takes its place.
        """
        config, adapter = self.config, self.config.retriever_peft_model_path
        if config.search_index is not None:
            return SearchedIndex(config, self.reranker)
        assert config.retriever_name_or_path is not None
        placement = placement_of(config)
        return retriever_from_config(config, config.retriever_name_or_path, placement, adapter)

    @cached_property
    def reranker(self) -> Reranker | None:
        """The reranker of system and baseline alike; None without `--reranker`."""
        return reranker_of(self.config, placement_of(self.config))

    def baseline_retriever(self, tuned: Retriever | SearchedIndex) -> Retriever:
        """Load the baseline; its maximum lengths are those of the tuned retriever, if it can."""
        config = self.config
        assert config.baseline is not None
        assert isinstance(tuned, Retriever)
        placement = placement_of(config)
        return retriever_from_config(config, config.baseline, placement, as_long_as=tuned)

    def reader(self) -> Reader | None:
        """Load the generator as it was trained, or name it on its server; None without answers."""
        config = self.answers
        if config is None:
            logger.info("only the retriever is evaluated; --evaluate-generator adds the answers")
            return None
        if config.generator_url is not None:
            return self._served(config)
        assert config.generator_name_or_path is not None
        adapter, length = config.generator_peft_model_path, config.generator_max_len
        return self._cached(config, config.generator_name_or_path, adapter, length)

    def _served(self, config: EvalRag) -> ServedGenerator:
        logger.info("NLL        not measured: a server gives no log-probabilities of a reference")
        return served_reader(config, self._journal, self.output.resume)

    def baseline_reader(self, tuned: Reader) -> Reader:
        """Load the baseline's generator; its maximum length is that of the tuned one."""
        config = self.answers
        assert config is not None
        assert config.baseline_generator is not None
        length = config.generator_max_len
        if isinstance(tuned, LocalReader):
            length = tuned.generator.max_length
        return self._cached(config, config.baseline_generator, None, length)

    @property
    def _journal(self) -> Path:
        """Where answers are kept as they come, so that a killed evaluation goes on."""
        return self.output.journal("generator.jsonl")

    def _cached(
        self, config: EvalRag, name: str, adapter: str | None, max_length: int | None
    ) -> CachedReader:
        reader = load_reader(config, name, adapter, max_length)
        journal = AnswerJournal(self._journal, adapter or name, self.output.resume)
        parts = reader.generator, reader.reader_passages, reader.max_new_tokens
        return CachedReader(*parts, journal=journal)

    @property
    def names(self) -> tuple[str, str]:
        """The names of the evaluated system and of the baseline in the results."""
        config, answers = self.config, self.answers
        searched = str(config.search_index or config.retriever_name_or_path)
        tuned = config.retriever_peft_model_path or searched
        baseline = config.baseline or searched
        if answers is None:
            return tuned, baseline
        generator = str(answers.generator_name_or_path)
        if answers.generator_url is not None:
            generator = f"{answers.generator_model} ({answers.generator_url})"
        return (
            f"{tuned} + {answers.generator_peft_model_path or generator}",
            f"{baseline} + {answers.baseline_generator or generator}",
        )
