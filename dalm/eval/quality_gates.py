"""Decide whether an evaluation passes: thresholds, no regression, a guard dataset."""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dalm.config import EvalRag, EvalRetriever
from dalm.errors import UserError
from dalm.eval.comparison import MeasureResult
from dalm.eval.metrics import (
    BOUNDS,
    FIRST,
    Needs,
    higher_is_better,
    is_variant,
    label,
    registered,
)
from dalm.eval.retrieval_metrics import parse_measure
from dalm.eval.sentences import counted, power, sentence

logger = logging.getLogger(__name__)

GUARDED = "F1"
"""The measure of answers that a guard dataset checks, besides the first of retrieval."""


class GateError(Exception):
    """The evaluation ran and failed a quality gate: exit code 1."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Gate:
    """A quality gate in words, and whether it passed."""

    text: str
    passed: bool
    decides: bool = True
    """Whether the exit code depends on it."""


def parse_thresholds(texts: Sequence[str] | None) -> dict[str, float]:
    """Parse `R@10=0.8 EM=0.4`: the threshold of each measure.

    Raises:
        UserError: something else, or two thresholds of one measure.
    """
    found = dict[str, float]()
    for text in texts or ():
        measure, equals, bound = text.partition("=")
        try:
            value = float(bound)
        except ValueError:
            value = math.nan
        if not (equals and math.isfinite(value)):
            raise UserError(f"--fail-below {text}: write measure and value, as in R@10=0.8")
        if (column := _column(measure.strip())) in found:
            raise UserError(f"--fail-below {text}: {column} has a threshold already; keep one")
        found[column] = value
    return found


def _column(name: str) -> str:
    """Return a column's name as results have it: `R@10[fused]` for `recall@10[fused]`."""
    base, bracket, variant = name.partition("[")
    others = {each.lower(): each for each in registered()}
    return (_retrieval_measure(base) or others.get(base.lower(), base)) + bracket + variant


def _retrieval_measure(name: str) -> str | None:
    """Return a retrieval measure in ir_measures' notation; None for another name."""
    try:
        return str(parse_measure(name))
    except UserError:
        return None


def check_thresholds(thresholds: Mapping[str, float], measured: Collection[str]) -> None:
    """Refuse thresholds of measures that are not among `measured`.

    Raises:
        UserError: names the others.
    """
    for measure in thresholds:
        if measure not in measured:
            plain = [each for each in measured if not is_variant(each)]
            raise UserError(
                f"--fail-below {measure}: not measured; measured are {', '.join(plain)}"
            )


def measured_columns(config: EvalRetriever, measures: Sequence[str]) -> list[str]:
    """Return the columns that an evaluation may have; `measures` are those of retrieval.

    What only the data decides is among them: whether questions are marked as unanswerable, and
    whether the passages are few enough for BM25.
    """
    found = list(measures)
    if config.search_index is None:
        stages = ["BM25", "fused", *(["reranked"] if config.reranker else [])]
        found += [f"{each}[{stage}]" for stage in stages for each in measures] + [f"{FIRST}[BM25]"]
    if not isinstance(config, EvalRag) or not config.evaluate_generator:
        return found
    compared = config.baseline is not None or config.baseline_generator is not None
    taken: dict[Needs, bool] = {
        "references": True,
        "generator": config.generator_url is None,
        "passages": True,
        "answerable": True,
        "citations": config.citations,
        "judge": config.judge is not None,
    }
    for name, metric in registered().items():
        if not taken.get(metric.needs) or (name == "preference" and not compared):
            continue
        found.append(name)
        if config.bounds and metric.needs in ("references", "generator"):
            found += [f"{name}[{bound}]" for bound in BOUNDS]
    return found


def evaluation_gates(
    measures: Sequence[MeasureResult],
    guards: Mapping[str, Sequence[MeasureResult]],
    config: EvalRetriever,
) -> list[Gate]:
    """Return the gates of an evaluation: thresholds, regression, and those of the guard datasets.

    Without `--fail-on-regression` the guards are shown, and decide nothing.
    """
    gates = threshold_gates(measures, parse_thresholds(config.fail_below))
    decides = config.fail_on_regression
    if decides:
        gates.append(regression_gate(measures))
    for dataset, guarded in guards.items():
        found = guard_gates(guarded, dataset, config.guard_margin)
        gates += [replace(gate, decides=decides) for gate in found]
    return gates


def threshold_gates(
    results: Sequence[MeasureResult], thresholds: Mapping[str, float]
) -> list[Gate]:
    """Compare each measure's mean with its minimum; with its maximum if lower is better.

    A measure without any value fails.
    """
    known = {result.measure: result for result in results}
    return [_threshold(measure, bound, known.get(measure)) for measure, bound in thresholds.items()]


def _threshold(measure: str, bound: float, result: MeasureResult | None) -> Gate:
    higher = higher_is_better(measure)
    required = f"{'minimum' if higher else 'maximum'} {bound:g}"
    if result is None:
        return Gate(f"{label(measure)} was not measured ({required})", False)
    passed = result.mean >= bound if higher else result.mean <= bound
    return Gate(
        f"{label(measure)} is {result.mean:.3f} over {counted(result)} ({required})", passed
    )


def regression_gate(results: Sequence[MeasureResult]) -> Gate:
    """Fail if a measure is significantly worse than the baseline's, or none can be compared.

    Of the stages of the search, the retriever's alone count.
    """
    results = [each for each in results if not is_variant(each.measure)]
    worse = [sentence(result) for result in results if result.verdict == "worse"]
    if worse:
        return Gate(f"{len(worse)} measures are significantly worse: {'. '.join(worse)}", False)
    compared = [result.against for result in results if result.against]
    if not compared:
        return Gate("no measure is compared: the baseline has none of these", False)
    over = f"{counted(compared[0])}{power(compared[0])}"
    return Gate(f"no measure is significantly worse over {over}", True)


def guard_gates(results: Sequence[MeasureResult], dataset: str, margin: float) -> list[Gate]:
    """Fail if the first measure on the guard dataset, or F1 of the answers, fell by over `margin`.

    Whether the difference is significant plays no part.
    """
    gates = []
    for i, result in enumerate(results):
        if result.against is None or (i > 0 and result.measure != GUARDED):
            continue
        fall = -result.against.difference
        moved = "rose" if fall < 0 else "fell"
        text = (
            f"guard {dataset}: {label(result.measure)} {moved} from {result.against.baseline:.3f} "
            f"to {result.compared_mean:.3f} over {counted(result.against)} "
            f"(allowed drop {margin:g})"
        )
        gates.append(Gate(text, fall <= margin))
    return gates


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
