"""Render an evaluation as one self-contained HTML page."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dalm import artifacts, file_reading
from dalm.eval.comparison import MeasureResult
from dalm.eval.judge.verdicts import judge_summary
from dalm.eval.metrics import BOUNDS, FOUND, is_variant, label, metric_of
from dalm.eval.quality_gates import Gate
from dalm.eval.report import charts, query_table
from dalm.eval.results import Results
from dalm.eval.sentences import counted, sentence
from dalm.eval.summary import by_context, by_stage, interval_units, p_value
from dalm.eval.verdict import Part, Verdict
from dalm.training import metrics_log

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of the page: systems with their measures, compared with a baseline if any.

    `findings` are those of each system. `training` holds the logs of the runs that trained the
    models, by folder.
    """

    systems: Sequence[Results]
    measures: Sequence[Sequence[MeasureResult]]
    baseline: Results | None = None
    gates: Sequence[Gate] = ()
    findings: Sequence[Sequence[str]] = ()
    training: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    verdict: Verdict | None = None
    cost: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_systems(self) -> list[tuple[int, Results]]:
        """All systems with the positions of their colours: the baseline is 0."""
        found = list(enumerate(self.systems, start=1))
        return [(0, self.baseline), *found] if self.baseline else found


def training_logs(models: Sequence[str | None]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the training logs in or above the models' folders, by folder.

    A damaged one is left out with a warning, and so is a last line that is incomplete.
    """
    paths = [Path(model) for model in models if model and Path(model).is_dir()]
    logs = dict.fromkeys(
        folder / "metrics.jsonl" for path in paths for folder in (path, path.parent)
    )
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file in filter(Path.is_file, logs):
        try:
            lines = metrics_log.read(file, "the report leaves it out")
            found[str(file.parent)] = [record for _, record in lines]
        except file_reading.DamagedError as error:
            logger.warning("%s", error)
    return found


def write_page(file: Path, report: Report) -> None:
    """Write the page, whole or not at all."""
    artifacts.write_text(file, render(report))


def write_verdict_page(
    path: Path,
    verdict: Verdict,
    parts: Sequence[Part],
    *,
    cost: Mapping[str, str],
    command: str,
) -> None:
    """Write the verdict on a system with all its parts: an evaluation's page, whole or not at all.

    `cost` is what it took, in words: minutes, requests, tokens. `command` is what made all of it,
    as it was typed.
    """
    first = parts[0]
    results = replace(first.results, facts={**first.results.facts, "command": command})
    report = Report(
        systems=[results],
        measures=[first.measures],
        baseline=first.baseline,
        verdict=verdict,
        cost=cost,
    )
    write_page(path, report)


def render(report: Report) -> str:
    """Return the page as text; it loads nothing from anywhere, and its policy forbids it."""
    folder = files("dalm.eval.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"label": label, "p_value": p_value, "counted": counted}
    template = environment.from_string((folder / "page.html").read_text("utf-8"))
    return template.render(
        **_parts(report),
        style=Markup((folder / "page.css").read_text("utf-8")),
        script=Markup((folder / "page.js").read_text("utf-8")),
    )


def _parts(report: Report) -> dict[str, Any]:
    data = query_table.table_data(report.systems, report.baseline)
    return {
        "title": _title(report),
        "facts": report.systems[0].facts,
        "queries": report.systems[0].queries,
        "legend": [(charts.colour(index), r.name) for index, r in report.all_systems],
        "baseline": report.baseline,
        "compared": [
            {**_compared(results, measures), "findings": findings}
            for results, measures, findings in zip(
                report.systems,
                report.measures,
                report.findings or [()] * len(report.systems),
                strict=True,
            )
        ],
        "gates": report.gates,
        "verdict": report.verdict,
        "cost": report.cost,
        "charts": _charts(report),
        "training": {
            folder: [(curve.name, charts.training_chart(curve)) for curve in curves]
            for folder, lines in report.training.items()
            if (curves := charts.training_curves(lines))
        },
        "data": query_table.as_script(data),
        "textless": _textless(data),
        "origins": _origins([results for _, results in report.all_systems]),
    }


def _title(report: Report) -> str:
    names = ", ".join(results.name for results in report.systems)
    return f"{names} against {report.baseline.name}" if report.baseline else names


def _compared(results: Results, measures: Sequence[MeasureResult]) -> dict[str, Any]:
    """Return one system's part of the page: headlines, table, sentences, answers by context."""
    plain = [each for each in measures if not is_variant(each.measure)]
    headlines = [*plain[:2], *(each for each in plain[2:] if _is_headline(each.measure))]
    ends = charts.axis_ends(plain)
    return {
        "name": results.name,
        "headlines": headlines if len(headlines) > 2 else plain[:4],
        "rows": [(each, charts.interval_chart(each, ends[each.measure])) for each in plain],
        "sentences": [sentence(each) for each in plain if each.against],
        "judge": list(judge_summary(results.facts.get("judge"))),
        "stages": _stages(measures),
        "by_context": by_context(measures),
        "contexts": [FOUND, *BOUNDS.values()],
        "units": interval_units(measures),
    }


def _stages(measures: Sequence[MeasureResult]) -> dict[str, Any]:
    """Return the table of the stages of the search, with a bar of each row's first measure."""
    names, rows = by_stage(measures)
    bars = [charts.value_chart(row.values[0], int(row.evaluated)) for row in rows]
    return {"names": names, "rows": list(zip(rows, bars, strict=True))}


def _is_headline(measure: str) -> bool:
    metric = metric_of(measure)
    return metric is not None and metric.headline


def _charts(report: Report) -> dict[str, Markup]:
    systems = report.all_systems
    depth = charts.depth_of([results for _, results in systems])
    curves = [
        (index, charts.recall_over_k(results, depth, with_band=index == 1))
        for index, results in systems
    ]
    if not depth or not curves[0][1].xs:
        return {}
    fractions = [(index, charts.rank_fractions(results, depth)) for index, results in systems]
    return {
        "Recall over k": charts.recall_chart(curves),
        "Rank of the first relevant passage": charts.rank_chart(fractions, depth),
    }


def _textless(data: Mapping[str, Any]) -> bool:
    """Return whether the texts of some passages were left out to limit the page's size."""
    named = {name for system in data["systems"] for hits in system["hits"] for _, name, _ in hits}
    return bool(data["passages"]) and not named <= data["passages"].keys()


def _origins(all_systems: Sequence[Results]) -> list[dict[str, str]]:
    """Return command, facts and settings, once for the systems of one evaluation."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for results in all_systems:
        facts = dict(results.facts)
        command, settings = facts.pop("command", ""), facts.pop("settings", None)
        key = (command, _yaml(facts), _yaml(settings))
        if any(key):
            found.setdefault(key, []).append(results.name)
    return [
        {"names": ", ".join(names), "command": command, "facts": facts, "settings": settings}
        for (command, facts, settings), names in found.items()
    ]


def _yaml(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else ""
