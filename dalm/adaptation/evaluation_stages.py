"""The stages that compare the tuned pair with the one before, on each kind of questions."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dalm.adaptation.question_tables import Origin, read_counts, test_table
from dalm.adaptation.stages import Stage
from dalm.adaptation.system import System
from dalm.adaptation.training_stages import passages_read
from dalm.config import Columns, EvalRag, EvalRetriever
from dalm.io.tables import read_table

TESTS: Mapping[str, Origin] = {
    "evaluate-human": "human",
    "evaluate-feedback": "feedback",
    "evaluate-generated": "generated",
}
OF_ANSWERS = {each.name for each in fields(EvalRag)} - {each.name for each in fields(EvalRetriever)}
"""Options of evaluations of answers alone."""


def evaluation_stages(system: System) -> list[Stage]:
    """Return the evaluations, the guard's last."""
    stages = [_evaluation(system, name, origin) for name, origin in _origins(system)]
    if guard := system.settings.guard:
        folder = "evaluation/guard"
        stages.append(_evaluated(system, "evaluate-guard", Path(guard), folder, None))
    return stages


def _origins(system: System) -> list[tuple[str, Origin]]:
    asked = {
        "human": system.settings.questions is not None,
        "feedback": system.settings.feedback is not None,
        "generated": system.settings.backend != "none",
    }
    return [(name, origin) for name, origin in TESTS.items() if asked[origin]]


def _evaluation(system: System, name: str, origin: Origin) -> Stage:
    table = test_table(system.tables, origin)
    stage = _evaluated(system, name, table, f"evaluation/{origin}", [str(system.passages)])

    def skip() -> str | None:
        return None if table.exists() else f"no {origin} questions are held out"

    return replace(stage, skip=skip)


def _evaluated(
    system: System, name: str, table: Path, folder: str, searched: list[str] | None
) -> Stage:
    is_guard = searched is None
    before = system.pairs.untuned if is_guard else system.pairs.before(system.tuned)
    answers = _has_answers(system, table)
    command = "eval-rag" if answers else "eval-retriever"
    paths: dict[str, Any] = {
        "output_dir": str(system.folder / folder),
        "overwrite_output_dir": True,
        "retriever_name_or_path": system.tuned.retriever,
        "baseline": before.retriever,
    }
    reads: dict[str, Any] = {
        "questions": table,
        "tuned retriever": system.tuned.retriever,
        "retriever before": before.retriever,
    }
    options: dict[str, Any] = {}
    if searched:
        paths["passages"] = searched
        reads["passages"] = system.passages
    if system.settings.reranker:
        paths["reranker"] = system.settings.reranker
        reads["reranker"] = system.settings.reranker
    if answers:
        paths["generator_name_or_path"] = system.tuned.generator
        paths["baseline_generator"] = before.generator
        reads["tuned generator"] = system.tuned.generator
        reads["generator before"] = before.generator
        options = {"evaluate_generator": True, "reader_passages": passages_read(system)}
        options["bounds"] = not is_guard
    given = system.given.get(name, {})
    if not answers:  # as it turned out
        given = {option: value for option, value in given.items() if option not in OF_ANSWERS}
    return system.command(
        name,
        command,
        folder,
        given=given,
        arguments=[str(table)],
        paths=paths,
        options=options,
        reads=reads,
        writes=[system.folder / folder],
    )


def _has_answers(system: System, table: Path) -> bool:
    if table.parent != system.tables:  # the guard
        given = system.given.get("evaluate-guard", {})
        read = read_table(str(table), encoding=given.get("encoding"))
        return read.has(given.get("answer_column", Columns.answer_column))
    counts = {
        test_table(system.tables, origin): each
        for origin, each in read_counts(system.tables).items()
    }
    return table not in counts or bool(counts[table].answered or not counts[table].test)
