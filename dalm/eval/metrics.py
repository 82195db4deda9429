"""Register the metrics of an evaluation: their labels, directions and needs, by name.

A metric from outside is an entry point of the group `dalm.metrics` that loads a `Metric`. A column
of results is called by a metric's name, `EM`, or with a cutoff, `R@10`, or with what the generator
read instead of the passages found, `EM[gold]`.
"""

from collections.abc import Iterator
from importlib.metadata import entry_points

from dalm.errors import UserError
from dalm.eval.answer_metrics import ANSWER_METRICS
from dalm.eval.metric import Metric, Needs
from dalm.eval.retrieval_metrics import RETRIEVAL_METRICS

GROUP = "dalm.metrics"
FOUND = "found passages"
BOUNDS = {"gold": "gold passage", "random": "random passage", "none": "no passage"}
"""What a generator may be given to read instead of what was found, as `EM[gold]` is written."""


def installed_metrics() -> Iterator[Metric]:
    """Yield the metrics of other packages.

    Raises:
        UserError: an entry point can't be loaded, or isn't a `Metric`.
    """
    for entry in entry_points(group=GROUP):
        try:
            metric = entry.load()
        except Exception as error:  # whatever the other package raises
            raise UserError(
                f"metric {entry.name!r} ({entry.value}) can't be loaded: {error}; update or remove "
                "the package that brings it"
            ) from error
        if not isinstance(metric, Metric):
            raise UserError(
                f"metric {entry.name!r} ({entry.value}) is a {type(metric).__name__}, not a "
                "dalm.eval.metric.Metric"
            )
        yield metric


METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*RETRIEVAL_METRICS, *ANSWER_METRICS, *installed_metrics())
}
"""All metrics by name, in the order of the report."""


def metrics_that_need(needs: Needs) -> list[Metric]:
    """Return the metrics that are computed from `needs`."""
    return [metric for metric in METRICS.values() if metric.needs == needs]


def metric_of(measure: str) -> Metric | None:
    """Return the metric of a column, `R` for `R@10` and `EM` for `EM[gold]`; None if unknown."""
    return METRICS.get(measure.partition("[")[0].partition("@")[0])


def higher_is_better(measure: str) -> bool:
    """Return whether a larger value is the better one, as for all but NLL and false abstention."""
    metric = metric_of(measure)
    return metric is None or metric.higher_is_better


def is_bound(measure: str) -> bool:
    """Return whether a column is of answers from other passages than those that were found."""
    return measure.endswith("]")


def label(measure: str) -> str:
    """Return the name of a column in tables and sentences: `recall@10`, `EM, gold passage`."""
    name, _, read = measure.partition("[")
    family, at, cutoff = name.partition("@")
    metric = METRICS.get(family)
    text = (metric.label or metric.name if metric else family) + at + cutoff
    return f"{text}, {BOUNDS.get(read[:-1], read[:-1])}" if read else text
