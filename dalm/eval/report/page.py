"""Everything that an evaluation found in; one HTML file that needs nothing else out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dalm.eval import summary
from dalm.eval.comparison import BOUNDS, Line, is_bound, sentence, spoken
from dalm.eval.judge.verdicts import judge_summary
from dalm.eval.quality_gates import Gate
from dalm.eval.report import chart_data, charts, query_table
from dalm.eval.results import Results

SEED = 0
"""Of the resampling behind the band of the curves."""
HEADLINES = ("EM", "F1", "faithfulness", "correctness")
"""Measures of answers that stand at the top, beside the first of retrieval."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page tells: systems with their lines, held against a baseline if there is one.

    `training` are the logs of the runs that made the models, by their folders.
    """

    systems: Sequence[Results]
    lines: Sequence[Sequence[Line]]
    baseline: Results | None = None
    gates: Sequence[Gate] = ()
    training: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def everybody(self) -> list[tuple[int, Results]]:
        """All systems with their colours' places: the baseline is 0."""
        found = [(place, results) for place, results in enumerate(self.systems, start=1)]
        return [(0, self.baseline), *found] if self.baseline else found


def write_page(file: Path, report: Report) -> None:
    """Write the page, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    growing = file.with_name(f".{file.name}.part")
    growing.write_text(render(report), encoding="utf-8")
    growing.replace(file)


def render(report: Report) -> str:
    """Return the page as text; it loads nothing, and forbids itself to."""
    here = files("dalm.eval.page")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"spoken": spoken, "p_value": summary.p_value}
    template = environment.from_string((here / "page.html").read_text("utf-8"))
    return template.render(
        **_parts(report),
        style=Markup((here / "page.css").read_text("utf-8")),
        script=Markup((here / "page.js").read_text("utf-8")),
    )


def _parts(report: Report) -> dict[str, Any]:
    data = query_table.table_data(report.systems, report.baseline)
    return {
        "title": _title(report),
        "facts": report.systems[0].facts,
        "queries": report.systems[0].queries,
        "legend": [(charts.colour(place), r.name) for place, r in report.everybody],
        "baseline": report.baseline,
        "compared": [
            _compared(results, lines)
            for results, lines in zip(report.systems, report.lines, strict=True)
        ],
        "gates": report.gates,
        "pictures": _pictures(report),
        "training": {
            folder: [(curve.name, charts.training_picture(curve)) for curve in curves]
            for folder, lines in report.training.items()
            if (curves := chart_data.training_curves(lines))
        },
        "data": query_table.as_script(data),
        "textless": _textless(data),
        "origins": _origins([results for _, results in report.everybody]),
    }


def _title(report: Report) -> str:
    names = ", ".join(results.name for results in report.systems)
    return f"{names} against {report.baseline.name}" if report.baseline else names


def _compared(results: Results, lines: Sequence[Line]) -> dict[str, Any]:
    """Return one system's part of the page: headlines, table, sentences, answers by reading."""
    plain = [line for line in lines if not is_bound(line.measure)]
    means = {line.measure: line for line in lines}
    leading = [*plain[:2], *(means[name] for name in HEADLINES if name in means)]
    highest = charts.highest_of(plain)
    return {
        "name": results.name,
        "headlines": leading if len(leading) > 2 else plain[:4],
        "rows": [(line, charts.interval_picture(line, highest[line.measure])) for line in plain],
        "said": [sentence(line) for line in plain if line.against],
        "judge": list(judge_summary(results.facts.get("judge"))),
        "readings": {
            name: [means.get(key) for key in (name, *(f"{name}[{b}]" for b in BOUNDS))]
            for name in means
            if any(f"{name}[{bound}]" in means for bound in BOUNDS)
        },
        "read": ["found passages", *BOUNDS.values()],
    }


def _pictures(report: Report) -> dict[str, Markup]:
    everybody = report.everybody
    depth = chart_data.depth_of([results for _, results in everybody])
    curves = [
        (place, chart_data.recall_over_k(results, depth, seed=SEED if place == 1 else None))
        for place, results in everybody
    ]
    if not depth or not curves[0][1].xs:
        return {}
    shares = [(place, chart_data.rank_shares(results, depth)) for place, results in everybody]
    return {
        "Recall over k": charts.recall_picture(curves),
        "Rank of the first relevant passage": charts.rank_picture(shares, depth),
    }


def _textless(data: Mapping[str, Any]) -> bool:
    """Tell whether passages' texts were left out for want of room."""
    named = {name for system in data["systems"] for hits in system["hits"] for _, name, _ in hits}
    return bool(data["passages"]) and not named <= data["passages"].keys()


def _origins(everybody: Sequence[Results]) -> list[dict[str, str]]:
    """Return how the figures were made, once for the systems of one evaluation."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for results in everybody:
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
