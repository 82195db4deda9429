"""Define the metrics of an evaluation: name, label, direction and what each is computed from.

A metric from outside is an entry point of the group `dalm.metrics` that loads a `Metric`. A column
of results is called by a metric's name, `EM`, or with a cutoff, `R@10`, or with what the generator
read instead of the passages found, `EM[gold]`, or with a stage of the search, `R@10[fused]`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from dalm.errors import UserError
from dalm.eval.answer_metrics import (
    abstains,
    citation_precision,
    citation_recall,
    containment,
    exact_match,
    grounding,
    rouge_l,
    token_f1,
)
from dalm.eval.retrieval_metrics import LABELS
from dalm.plugins import entry_points_of, load_entry_point
from dalm.records import Hit, JudgedQuery

FOUND = "found passages"
BOUNDS = {"gold": "gold passage", "random": "random passage", "none": "no passage"}
"""What a generator may be given to read instead of what was found, as `EM[gold]` is written."""
STAGES = {"BM25": "BM25", "": "alone", "fused": "fused with BM25", "reranked": "reranked"}
"""Stages of the search, as `R@10[fused]` is written; `R@10` is that of the retriever alone."""
FIRST = "Success@1"
"""Also measured of BM25: the queries that leave another retriever something to gain at rank 1."""

Column = list[float | None]
"""A value per query; None where a metric isn't defined for it."""

Needs = Literal[
    "relevance", "references", "passages", "answerable", "citations", "generator", "judge"
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
    bounded: bool = True
    """Whether all values lie between 0 and 1, so that its interval has to."""
    headline: bool = False
    """Whether the report shows it at the top, beside the first two retrieval metrics."""
    failures: str = ""
    """Label of the report's filter for the worst value: 0, or 1 if lower is better."""
    score: Score | None = None


def _with_references(metric: Callable[[str, Sequence[str]], float]) -> Score:
    """Compare with the query's references; undefined without one."""
    return lambda answer, query, _: metric(answer, query.references) if query.references else None


def _abstention(answerable: bool) -> Score:
    """Return 1 for an abstention and 0 for an answer; undefined for queries marked otherwise."""
    return lambda answer, query, _: (
        float(abstains(answer)) if query.answerable is answerable else None
    )


_OWN = (
    *(Metric(name=name, label=label, needs="relevance") for name, label in LABELS.items()),
    Metric(
        name="EM",
        needs="references",
        headline=True,
        failures="answered wrongly",
        score=_with_references(exact_match),
    ),
    Metric(name="F1", needs="references", headline=True, score=_with_references(token_f1)),
    Metric(name="containment", needs="references", score=_with_references(containment)),
    Metric(name="ROUGE-L", needs="references", score=_with_references(rouge_l)),
    Metric(name="NLL", needs="generator", higher_is_better=False, bounded=False),
    Metric(
        name="grounding",
        needs="passages",
        score=lambda answer, _, hits: grounding(answer, [hit.passage.text for hit in hits]),
    ),
    Metric(name="abstention", needs="answerable", score=_abstention(False)),
    Metric(
        name="false abstention",
        needs="answerable",
        higher_is_better=False,
        failures="wrongly declined",
        score=_abstention(True),
    ),
    Metric(
        name="citation precision",
        needs="citations",
        score=lambda answer, query, hits: citation_precision(answer, hits, query.gold),
    ),
    Metric(
        name="citation recall",
        needs="citations",
        score=lambda answer, query, hits: citation_recall(answer, hits, query.gold),
    ),
    Metric(name="faithfulness", needs="judge", headline=True),
    Metric(name="correctness", needs="judge", headline=True),
    Metric(name="preference", needs="judge"),
)
METRICS = {metric.name: metric for metric in _OWN}
"""The metrics of this package by name, in the order of the report."""


@cache
def registered() -> dict[str, Metric]:
    """Return all metrics by name: this package's, then those of entry points.

    Raises:
        UserError: an entry point can't be loaded, or isn't a `Metric`.
    """
    return METRICS | {metric.name: metric for metric in _installed()}


def _installed() -> Iterator[Metric]:
    for entry in entry_points_of("dalm.metrics").values():
        metric = load_entry_point(entry)
        if not isinstance(metric, Metric):
            raise UserError(
                f"metric {entry.name!r} ({entry.value}) is a {type(metric).__name__}, not a "
                "dalm.eval.metrics.Metric"
            )
        yield metric


# Columns of results


def metrics_that_need(needs: Needs) -> list[Metric]:
    """Return the metrics that are computed from `needs`."""
    return [metric for metric in registered().values() if metric.needs == needs]


def metric_of(measure: str) -> Metric | None:
    """Return the metric of a column, `R` for `R@10` and `EM` for `EM[gold]`; None if unknown."""
    return registered().get(measure.partition("[")[0].partition("@")[0])


def higher_is_better(measure: str) -> bool:
    """Return whether a larger value is the better one, as for all but NLL and false abstention."""
    metric = metric_of(measure)
    return metric is None or metric.higher_is_better


def is_bounded(measure: str, values: Sequence[float]) -> bool:
    """Return whether a column's values lie between 0 and 1 because of what they measure."""
    metric = metric_of(measure)
    return (metric is None or metric.bounded) and all(0 <= value <= 1 for value in values)


def is_variant(measure: str) -> bool:
    """Return whether a column is of other passages than the main figures: a bound, or a stage."""
    return measure.endswith("]")


def family_of(measure: str) -> str | None:
    """Return what a column's p is adjusted together with: "", or a stage; None for a bound."""
    variant = measure.partition("[")[2].removesuffix("]")
    return variant if variant in STAGES else None


def label(measure: str) -> str:
    """Return the name of a column in tables and sentences: `recall@10`, `EM, gold passage`."""
    name, _, variant = measure.partition("[")
    family, at, cutoff = name.partition("@")
    metric = registered().get(family)
    text = (metric.label or metric.name if metric else family) + at + cutoff
    variant = variant.removesuffix("]")
    return f"{text}, {(BOUNDS | STAGES).get(variant, variant)}" if variant else text


# Values


def means(values: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Return each metric's mean over the queries for which it is defined; NaN for none."""
    return {name: mean(column) for name, column in values.items()}


def mean(column: Iterable[float | None]) -> float:
    """Return the mean of the values that are defined; NaN if none is."""
    defined = [value for value in column if value is not None]
    return math.fsum(defined) / len(defined) if defined else math.nan
