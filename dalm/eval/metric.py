"""Describe a metric, and average its values per query."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dalm.records import Hit, JudgedQuery

Column = list[float | None]
"""A value per query; None where a metric isn't defined for it."""

Needs = Literal[
    "relevance",
    "references",
    "passages",
    "answerable",
    "citations",
    "generator",
    "judge",
]
"""What a metric is computed from: relevance judgements of the passages found; the references of an
answer; the passages in its prompt; the mark of a question as (un)answerable; citations, where they
were asked for; the generator's probabilities; an LLM judge's verdicts.

Metrics of `references` and `generator` are also taken of the bounds: answers from the gold passage,
a random one, and none."""

Score = Callable[[str, JudgedQuery, Sequence[Hit]], float | None]
"""Answer, its query and the passages in its prompt → a value; None where it isn't defined."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric's name in options and files, its label in tables, its direction, what it needs.

    `score` computes it for one answer. It is None for what isn't a function of answer, query and
    passages: retrieval metrics (computed by ir_measures), NLL, and a judge's verdicts.
    """

    name: str
    label: str = ""
    """The name in tables and sentences, if it is another: `recall` for `R`."""
    needs: Needs
    higher_is_better: bool = True
    headline: bool = False
    """Whether the report shows it at the top, beside the first two retrieval metrics."""
    failures: str = ""
    """Label of the report's filter for the worst value: 0, or 1 if lower is better."""
    score: Score | None = None


def means(values: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Return each metric's mean over the queries for which it is defined; NaN for none."""
    return {name: mean(column) for name, column in values.items()}


def mean(column: Iterable[float | None]) -> float:
    """Return the mean of the values that are defined; NaN if none is."""
    defined = [value for value in column if value is not None]
    return math.fsum(defined) / len(defined) if defined else math.nan
