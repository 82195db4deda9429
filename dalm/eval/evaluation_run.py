"""Run an evaluation: check its options, read data and models, measure, save, report."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from ir_measures import Measure

from dalm import distributed
from dalm.config import EvalRag, EvalRetriever, check
from dalm.eval.answer_evaluation import AnswerOptions, evaluate_answers
from dalm.eval.comparison import MeasureResult, compare
from dalm.eval.evaluated_models import (
    baseline_name,
    check_models,
    load_reader,
    load_retriever,
    served_reader,
    system_name,
)
from dalm.eval.evaluation_output import EvaluationOutput
from dalm.eval.quality_gates import Gate, check_thresholds, evaluation_gates, parse_thresholds
from dalm.eval.results import BASELINE, Results
from dalm.eval.retrieval_evaluation import retrieval_measures, search
from dalm.eval.summary import enforce_gates, print_results, run_facts, summary, training_logs
from dalm.eval.timing import Stopwatch
from dalm.io.evaluation_set import EvaluationSet, read_evaluation_set
from dalm.io.examples import Field
from dalm.models.retriever import Retriever
from dalm.rag.pipeline import LocalReader, Reader
from dalm.retrieval.embedding_cache import folder_of

logger = logging.getLogger(__name__)


class EvaluationRun:
    """One run of an evaluation command: its config, outputs, datasets and clock.

    Entering it refuses what can't work before any model loads, claims the outputs and joins the
    other processes; leaving it releases the outputs.
    """

    def __init__(self, config: EvalRetriever) -> None:
        self.config = config
        self.output = EvaluationOutput(config)
        self.datasets: list[EvaluationSet] = []
        self.watch = Stopwatch()

    def __enter__(self) -> Self:
        """Check the options, claim the outputs, join the other processes.

        Raises:
            UserError: a value out of range, no such model, or results in the folder already.
        """
        config = self.config
        check(config)
        thresholds = parse_thresholds(config.fail_below)
        measures = [str(each) for each in self.measures]
        check_thresholds(thresholds, measures, answers=self.answer_config is not None)
        folder_of(config.cache, config.cache_dir)
        self.output.check()
        check_models(config, self.answer_config)
        self.output.claim()
        distributed.join()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.output.release()

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return self.output.folder

    # What is evaluated

    @property
    def answer_config(self) -> EvalRag | None:
        """The config of generator and answers; None if only the retriever is evaluated."""
        config = self.config
        return config if isinstance(config, EvalRag) and config.evaluate_generator else None

    @cached_property
    def measures(self) -> list[Measure]:
        """The retrieval measures, the primary one first."""
        return retrieval_measures(self.config.measures, self.config.top_k)

    def read_datasets(self, source: str) -> None:
        """Read the dataset, and the guard dataset if there is one.

        A row needs a gold passage, and an answer if answers are evaluated; answers over a knowledge
        base (`--passages`) need no gold passage.
        """
        config = self.config
        needs: set[Field] = {"passage"}
        if self.answer_config:
            needs = {"answer"} if config.passages else {"passage", "answer"}
        column = config.answerable_column if isinstance(config, EvalRag) else "Answerable"

        def read(name: str, passages: Sequence[str]) -> EvaluationSet:
            return read_evaluation_set(
                name, config, needs=needs, answerable_column=column, knowledge_base=passages
            )

        self.datasets = [read(source, config.passages or ())]
        if config.guard:
            self.datasets.append(read(config.guard, ()))

    def retriever(self) -> Retriever:
        """Load the retriever, with its own lengths and prompts unless the config has others."""
        config = self.config
        return load_retriever(
            config, config.retriever_name_or_path, config.retriever_peft_model_path
        )

    def baseline_retriever(self, tuned: Retriever) -> Retriever:
        """Load the baseline; its maximum lengths are those of the tuned retriever."""
        assert self.config.baseline is not None
        query, passage = tuned.sides["query"], tuned.sides["passage"]
        config = replace(self.config, query_max_len=query.max_len, passage_max_len=passage.max_len)
        return load_retriever(config, self.config.baseline)

    def reader(self) -> Reader | None:
        """Load the generator as it was trained, or name it on its server; None without answers."""
        config = self.answer_config
        if config is None:
            logger.info("only the retriever is evaluated; --evaluate-generator adds the answers")
            return None
        if config.generator_url is not None:
            return served_reader(config, self.output)
        assert config.generator_name_or_path is not None
        adapter, length = config.generator_peft_model_path, config.generator_max_len
        return load_reader(config, config.generator_name_or_path, adapter, length)

    def baseline_reader(self, tuned: Reader) -> Reader:
        """Load the baseline's generator; its maximum length is that of the tuned one."""
        config = self.answer_config
        assert config is not None
        assert config.baseline_generator is not None
        length = config.generator_max_len
        if isinstance(tuned, LocalReader):
            length = tuned.generator.max_length
        return load_reader(config, config.baseline_generator, None, length)

    @property
    def name(self) -> str:
        """The name of the evaluated system in the results."""
        return system_name(self.config, self.answer_config)

    @property
    def baseline_name(self) -> str:
        """The name of the baseline in the results."""
        return baseline_name(self.config, self.answer_config)

    # What comes out

    def evaluate(
        self, name: str, retriever: Retriever, reader: Reader | None = None
    ) -> list[Results]:
        """Return a system's results on each dataset; the guard needs no bounds."""
        found = [
            replace(search(retriever, each, self.measures, self.config, self.watch), name=name)
            for each in self.datasets
        ]
        config = self.answer_config
        if reader is None or config is None:
            return found
        options = AnswerOptions(bounds=config.bounds, seed=config.seed)
        guard = replace(options, bounds=False)
        return [
            evaluate_answers(reader, results, dataset, options if i == 0 else guard, self.watch)
            for i, (results, dataset) in enumerate(zip(found, self.datasets, strict=True))
        ]

    def save(self, systems: Sequence[Results], folder: str = "") -> None:
        """Save hits and answers at once, so that they outlast an error in what follows."""
        if not folder:
            self.output.discard_baseline()
        self.output.save(systems[0], {}, folder)

    def finish(self, systems: Sequence[Results], baselines: Sequence[Results]) -> None:
        """Save and print the results, write the report, enforce the quality gates.

        `systems` and `baselines` hold the results on the dataset, then on the guard dataset.

        Raises:
            GateError: a quality gate failed. Everything is written nevertheless.
        """
        if not distributed.is_main():
            return
        config, facts = self.config, run_facts(self.datasets[0], self.config, self.watch)
        results, *others = (
            replace(each, facts={**facts, **each.facts}) for each in (*systems[:1], *baselines[:1])
        )
        baseline = others[0] if others else None
        measures = compare(results, baseline, seed=config.seed)
        guards = {
            dataset.name: compare(system, other, seed=config.seed)
            for dataset, system, other in zip(
                self.datasets[1:], systems[1:], baselines[1:], strict=False
            )
        }
        gates = evaluation_gates(measures, guards, config)
        if baseline:
            its_measures = compare(baseline, seed=config.seed)
            self.output.save(baseline, summary(its_measures, None, (), config.seed), BASELINE)
        self.output.save(results, summary(measures, baseline, gates, config.seed))
        if config.report:
            self._write_report(results, measures, baseline, gates)
        print_results(measures, results, baseline)
        logger.info("time       %s", self.watch)
        logger.info("run        %s", self.folder)
        if config.report:
            logger.info("report     %s", config.report)
        enforce_gates(gates)

    def _write_report(
        self,
        results: Results,
        measures: Sequence[MeasureResult],
        baseline: Results | None,
        gates: Sequence[Gate],
    ) -> None:
        from dalm.eval.report.page import Report

        generator = getattr(self.config, "generator_name_or_path", None)
        report = Report(
            systems=[results],
            measures=[measures],
            baseline=baseline,
            gates=gates,
            training=training_logs((self.config.retriever_name_or_path, generator)),
        )
        self.output.write_report(report)
