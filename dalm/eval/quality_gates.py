"""What has to hold for an evaluation to pass: thresholds, no regression, nothing lost elsewhere."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dalm.errors import UserError
from dalm.eval.comparison import Line, lower_is_better, sentence, spoken
from dalm.eval.metrics import parse_measure


class GateError(Exception):
    """The evaluation ran, and its result doesn't pass: exit code 1."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that has to hold, in words, and whether it does."""

    text: str
    passed: bool
    decides: bool = True
    """Whether the exit code depends on it."""


def thresholds_of(asked: Sequence[str] | None) -> dict[str, float]:
    """Read `R@10=0.8 EM=0.4`: each measure with the least that it may be.

    Raises:
        UserError: something else.
    """
    found = {}
    for text in asked or ():
        measure, equals, bound = text.partition("=")
        try:
            value = float(bound)
        except ValueError:
            value = math.nan
        if not (equals and math.isfinite(value)):
            raise UserError(f"--fail-below {text}: write measure and value, as in R@10=0.8")
        found[_written(measure.strip())] = value
    return found


def _written(measure: str) -> str:
    """Return a retrieval measure in its own notation; another name stays as it is."""
    return str(parse_measure(measure)) if _is_of_retrieval(measure) else measure


def _is_of_retrieval(measure: str) -> bool:
    try:
        parse_measure(measure)
    except UserError:
        return False
    return True


def check_thresholds(
    least: Mapping[str, float], measured: Collection[str], *, answers: bool
) -> None:
    """Refuse thresholds on what will not be measured; `answers`: those of a generator will be.

    Raises:
        UserError: a retrieval measure that isn't among `measured`, or there are no answers.
    """
    for measure in least:
        if measure not in measured and (not answers or _is_of_retrieval(measure)):
            raise UserError(
                f"--fail-below {measure}: not measured; measured are {', '.join(measured)}"
            )


def threshold_gates(lines: Sequence[Line], least: Mapping[str, float]) -> list[Gate]:
    """Hold each measure's mean to the least that it may be; for NLL, the most.

    A measure without any value doesn't pass.
    """
    means = {line.measure: line.mean for line in lines}
    return [_threshold(measure, bound, means.get(measure)) for measure, bound in least.items()]


def _threshold(measure: str, bound: float, value: float | None) -> Gate:
    word = "most" if lower_is_better(measure) else "least"
    has_to = f"it has to be at {word} {bound:g}"
    if value is None:
        return Gate(f"{spoken(measure)} was not measured; {has_to}", False)
    passed = value <= bound if lower_is_better(measure) else value >= bound
    return Gate(f"{spoken(measure)} is {value:.3f}; {has_to}", passed)


def regression_gate(lines: Sequence[Line]) -> Gate:
    """Fail if a measure is worse than the baseline's beyond chance."""
    worse = [sentence(line) for line in lines if line.verdict == "worse"]
    if worse:
        return Gate(f"{len(worse)} measures fell: {'. '.join(worse)}", False)
    return Gate("no measure fell by more than chance may do", True)


def guard_gate(line: Line, name: str, margin: float) -> Gate:
    """Fail if the guarded measure fell by more than `margin`, whatever chance may do."""
    assert line.against is not None
    fall = -line.against.difference
    word = "rose" if fall < 0 else "fell"
    text = (
        f"guard {name}: {spoken(line.measure)} {word} from {line.against.baseline:.3f} to "
        f"{line.mean:.3f}; it may fall by {margin:g}"
    )
    return Gate(text, fall <= margin)
