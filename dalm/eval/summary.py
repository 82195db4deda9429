"""Summarise an evaluation: results.json, the terminal's tables and sentences, the quality gates."""

import logging
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dalm import artifacts, distributed
from dalm.config import EvalRetriever, public
from dalm.eval.comparison import FLIPS, LEVEL, SAMPLES, MeasureResult, sentence
from dalm.eval.judge.verdicts import judge_summary
from dalm.eval.metrics import is_bound, label
from dalm.eval.quality_gates import Gate, GateError
from dalm.eval.results import Results
from dalm.eval.terminal_table import bounds_table, measures_table, print_table
from dalm.eval.timing import Stopwatch
from dalm.io.evaluation_set import EvaluationSet

logger = logging.getLogger(__name__)

PACKAGES = ("indomain", "torch", "transformers", "sentence-transformers", "ir-measures")
PRINTED_SENTENCES = 3
"""Sentences on the terminal; the report has all of them."""


def summary(
    measures: Sequence[MeasureResult], baseline: Results | None, gates: Sequence[Gate], seed: int
) -> dict[str, Any]:
    """Return what results.json holds of the measures, and how their intervals were computed."""
    return {
        "baseline": baseline.name if baseline else None,
        "level": LEVEL,
        "bootstrap_samples": SAMPLES,
        "sign_flips": FLIPS,
        "seed": seed,
        "measures": [
            {"words": label(each.measure), **asdict(each), "verdict": each.verdict}
            for each in measures
        ],
        "gates": [asdict(gate) for gate in gates],
    }


def run_facts(dataset: EvaluationSet, config: EvalRetriever, watch: Stopwatch) -> dict[str, Any]:
    """Return how the figures were made: command, data, settings, versions, seconds."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "dataset": dataset.name,
        "passages": len(dataset.passages),
        "queries_unjudged": dataset.unjudged,
        "index": config.index,
        "processes": distributed.world_size(),
        "settings": public(config),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
        "seconds": watch.seconds,
        "speed": watch.speed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def training_logs(models: Sequence[str | None]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the training logs in or above the models' folders, by folder.

    A damaged one is left out with a warning, and so is a last line that is incomplete.
    """
    paths = [Path(model) for model in models if model and Path(model).is_dir()]
    files = dict.fromkeys(
        folder / "metrics.jsonl" for path in paths for folder in (path, path.parent)
    )
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file in filter(Path.is_file, files):
        try:
            lines = artifacts.read_jsonl(file, "the report leaves it out", torn=True)
            found[str(file.parent)] = [record for _, record in lines]
        except artifacts.DamagedError as error:
            logger.warning("%s", error)
    return found


def print_results(
    measures: Sequence[MeasureResult], results: Results, baseline: Results | None
) -> None:
    """Print the tables, and the first measures in sentences."""
    print()
    print_table(measures_table(measures, results.name, baseline.name if baseline else None))
    if (bounds := bounds_table(measures)) is not None:
        print()
        print_table(bounds)
    if baseline:
        print()
        compared = [each for each in measures if each.against and not is_bound(each.measure)]
        for each in compared[:PRINTED_SENTENCES]:
            print(sentence(each))
    if judged := list(judge_summary(results.facts.get("judge"))):
        print()
        print("\n".join(judged))


def enforce_gates(gates: Sequence[Gate]) -> None:
    """Log which gates passed and which failed.

    Raises:
        GateError: a gate failed that decides the exit code.
    """
    for gate in gates:
        logger.info("%-10s %s", "passed" if gate.passed else "FAILED", gate.text)
    failed = [gate for gate in gates if not gate.passed]
    if any(gate.decides for gate in failed):
        raise GateError(f"{len(failed)} of {len(gates)} gates failed")
