"""Run an evaluation: check its options, read data and models, measure, save, report."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Self

from ir_measures import Measure

from dalm import distributed
from dalm.config import EvalRag, EvalRetriever, check
from dalm.eval.answer_evaluation import evaluate_answers
from dalm.eval.comparison import compare
from dalm.eval.evaluated_models import EvaluatedModels
from dalm.eval.evaluation_output import EvaluationOutput
from dalm.eval.findings import findings
from dalm.eval.metrics import registered
from dalm.eval.quality_gates import (
    Gate,
    check_thresholds,
    enforce_gates,
    evaluation_gates,
    measured_columns,
    parse_thresholds,
)
from dalm.eval.report.sections import Section
from dalm.eval.results import BASELINE, Results, discard, save
from dalm.eval.retrieval_evaluation import RetrievalEvaluation
from dalm.eval.retrieval_metrics import retrieval_measures
from dalm.eval.searched_index import SearchedIndex
from dalm.eval.summary import print_results, run_facts, summary
from dalm.eval.verdict import GUARD, Part
from dalm.io.evaluation_set import EvaluationSet, read_evaluation_set
from dalm.io.examples import Field
from dalm.models.retriever import Retriever
from dalm.progress import Stopwatch
from dalm.rag.pipeline import Reader
from dalm.retrieval.embedding_cache import folder_of

logger = logging.getLogger(__name__)


class EvaluationRun:
    """One run of an evaluation command: its config, outputs, models, datasets and clock.

    Entering it refuses what can't work before any model loads, claims the outputs and joins the
    other processes; leaving it releases the outputs.
    """

    def __init__(self, config: EvalRetriever) -> None:
        self.config = config
        self.output = EvaluationOutput(config)
        self.models = EvaluatedModels(config, self.output)
        self.datasets: list[EvaluationSet] = []
        self.watch = Stopwatch()

    def __enter__(self) -> Self:
        """Check the options, claim the outputs, join the other processes.

        Raises:
            UserError: a value out of range, no such model, or results in the folder already.
        """
        config = self.config
        check(config)
        registered()  # names a metric of another package that can't be loaded
        thresholds = parse_thresholds(config.fail_below)
        check_thresholds(thresholds, measured_columns(config, list(map(str, self.measures))))
        folder_of(config.cache, config.cache_dir)
        self.output.check()
        self.models.check()
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
        if self.models.answers:
            elsewhere = config.passages or config.search_index
            needs = {"answer"} if elsewhere else {"passage", "answer"}
        column = config.answerable_column if isinstance(config, EvalRag) else "Answerable"

        def read(name: str, passages: Sequence[str]) -> EvaluationSet:
            return read_evaluation_set(
                name,
                config,
                needs=needs,
                answerable_column=column,
                knowledge_base=passages,
                searched=config.search_index is None,
            )

        self.datasets = [read(source, config.passages or ())]
        if config.guard:
            self.datasets.append(read(config.guard, ()))

    @cached_property
    def _searches(self) -> list[RetrievalEvaluation]:
        make = partial(RetrievalEvaluation, reranker=self.models.reranker)
        return [make(each, self.config, self.measures, self.watch) for each in self.datasets]

    def evaluate(
        self, name: str, retriever: Retriever | SearchedIndex, reader: Reader | None = None
    ) -> list[Results]:
        """Return a system's results on each dataset; the guard needs no bounds."""
        config = self.models.answers
        reads_reranked = config is not None and config.reranker is not None
        found = [
            search.evaluate(name, retriever, stages=place == 0 or reads_reranked)
            for place, search in enumerate(self._searches)
        ]
        if reader is None or config is None:
            return found
        seeds = [config.seed if config.bounds else None, None]
        return [
            evaluate_answers(reader, results, dataset, self.watch, bounds_seed=seed)
            for results, dataset, seed in zip(found, self.datasets, seeds, strict=False)
        ]

    def save(self, systems: Sequence[Results], folder: str = "") -> None:
        """Save hits and answers at once, so that they outlast an error in what follows."""
        if not distributed.is_main():
            return
        if not folder:
            discard(self.folder / BASELINE)
        save(self.folder / folder, systems[0], {})

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
        guarded = zip(self.datasets[1:], systems[1:], baselines[1:], strict=False)
        parts = [
            Part(
                name=GUARD,
                results=replace(system, facts={"dataset": dataset.name, **system.facts}),
                baseline=other,
                measures=compare(system, other, seed=config.seed),
            )
            for dataset, system, other in guarded
        ]
        guards = {str(each.results.facts["dataset"]): each.measures for each in parts}
        gates = evaluation_gates(measures, guards, config)
        found = findings(results, measures, config.seed)
        if baseline:
            alone = compare(baseline, seed=config.seed)
            its_findings = findings(baseline, alone, config.seed)
            its_summary = summary(alone, None, (), its_findings, config.seed)
            save(self.folder / BASELINE, baseline, its_summary)
        save(self.folder, results, summary(measures, baseline, gates, found, config.seed))
        if config.report:
            section = Section(
                systems=[results], measures=[measures], baseline=baseline, findings=[found]
            )
            self._write_report([section, *map(Section.of, parts)], gates)
        print_results(measures, results, baseline, found)
        logger.info("time       %s", self.watch)
        logger.info("run        %s", self.folder)
        if config.report:
            logger.info("report     %s", config.report)
        enforce_gates(gates)

    def _write_report(self, sections: Sequence[Section], gates: Sequence[Gate]) -> None:
        from dalm.eval.report.page import Report, training_logs, write_page

        generator = getattr(self.config, "generator_name_or_path", None)
        training = training_logs((self.config.retriever_name_or_path, generator))
        report = Report(sections=sections, gates=gates, training=training)
        write_page(Path(self.config.report or ""), report)
