"""Measure answers: those of an evaluation, or any with their references."""

from collections.abc import Iterable, Sequence

from dalm.eval.metrics import Column, Metric, metrics_that_need
from dalm.records import Hit, JudgedQuery


def measure_answers(
    answers: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, Column]:
    """Return EM, F1, containment and ROUGE-L of each answer against its references.

    The best reference counts; None where there is none. Raises ValueError if the lengths differ.
    """
    queries = [JudgedQuery(id="", query="", references=tuple(each)) for each in references]
    nothing: list[list[Hit]] = [[]] * len(queries)
    return score_answers(metrics_that_need("references"), answers, queries, nothing)


def score_answers(
    metrics: Iterable[Metric],
    answers: Sequence[str],
    queries: Sequence[JudgedQuery],
    hits: Sequence[Sequence[Hit]],
) -> dict[str, Column]:
    """Return the column of each metric that has a `score`; `hits` are the passages in each prompt.

    Raises ValueError if the lengths differ.
    """
    rows = list(zip(answers, queries, hits, strict=True))
    return {m.name: [m.score(*row) for row in rows] for m in metrics if m.score is not None}
