"""Render evaluations, and the verdict on them, as one self-contained HTML page."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dalm import artifacts, file_reading
from dalm.eval.metrics import label
from dalm.eval.quality_gates import Gate
from dalm.eval.report import charts, query_table
from dalm.eval.report.section_context import overview, section_context
from dalm.eval.report.sections import Section, verdicts_of
from dalm.eval.results import Results
from dalm.eval.sentences import counted
from dalm.eval.summary import p_value
from dalm.eval.verdict import WORDS, Part, Verdict
from dalm.training import metrics_log

logger = logging.getLogger(__name__)

SCRIPTS = ("passage_text.js", "page.js")
LONGEST_COMMAND = 90
"""Characters of a command on one line."""
FIRST_CURVES = 4
"""Training curves that are shown; the others are folded away."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of the page: one evaluation, or several with a verdict on all of them.

    `verdicts` are those on each system; by default those that the sections give. `training` holds
    the logs of the runs that trained the models, by folder. `cost`, `command` and the settings of
    `stages` are those of a whole adaptation.
    """

    sections: Sequence[Section]
    verdicts: Sequence[Verdict] = ()
    gates: Sequence[Gate] = ()
    training: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    cost: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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
    stages: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write the verdict on a system with all its parts: an evaluation's page, a section each.

    `cost` is what it took, by name: minutes, requests, tokens. `command` is what made it, as it was
    typed (`summary.typed_command`). `stages` are the settings of each stage, by name.
    """
    settings = [part.results.facts.get("settings") or {} for part in parts]
    names = ("retriever_name_or_path", "generator_name_or_path")
    models = [each.get(name) for each in settings for name in names]
    report = Report(
        sections=[Section.of(part) for part in parts],
        verdicts=[verdict],
        training=training_logs(models),
        cost=cost,
        command=command,
        stages=stages or {},
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
        script=Markup("".join((folder / name).read_text("utf-8") for name in SCRIPTS)),
    )


def _parts(report: Report) -> dict[str, Any]:
    room = query_table.MOST_TEXT // len(report.sections)
    sections = [section_context(section, room) for section in report.sections]
    verdicts = report.verdicts or verdicts_of(report.sections)
    names = [each.name for each in report.sections[0].systems]
    return {
        "title": _title(report.sections[0]),
        "sections": sections,
        "verdicts": [_verdict(*each) for each in zip(names, verdicts, strict=False)],
        "overview": overview(report.sections) if len(sections) > 1 else [],
        "gates": report.gates,
        "cost": report.cost,
        "training": {
            folder: [(curve.name, charts.training_chart(curve)) for curve in curves]
            for folder, lines in report.training.items()
            if (curves := charts.training_curves(lines))
        },
        "first_curves": FIRST_CURVES,
        "data": query_table.as_script([each["data"] for each in sections]),
        "command": _in_lines(report.command),
        "stages": {name: _yaml(each) for name, each in report.stages.items()},
        "origins": _origins(report.sections, report.command),
    }


def _title(section: Section) -> str:
    names = ", ".join(results.name for results in section.systems)
    return f"{names} against {section.baseline.name}" if section.baseline else names


def _verdict(name: str, verdict: Verdict) -> dict[str, Any]:
    word = WORDS[verdict.outcome]
    return {
        "name": name,
        "word": word,
        "kind": verdict.outcome.replace(" ", "-"),
        "headline": verdict.headline.removeprefix(f"{word}: "),
        "losses": verdict.losses,
        "reasons": verdict.reasons,
    }


def _origins(sections: Sequence[Section], command: str) -> list[dict[str, str]]:
    """Return command, facts and settings, once for the systems of one evaluation."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for section in sections:
        for _, results in section.all_systems:
            key = _origin(results, command)
            if any(key):
                name = f"{section.name}: {results.name}" if section.name else results.name
                found.setdefault(key, []).append(name)
    return [
        {"names": ", ".join(names), "command": _in_lines(typed), "facts": facts, "settings": kept}
        for (typed, facts, kept), names in found.items()
    ]


def _origin(results: Results, shown: str) -> tuple[str, str, str]:
    facts = dict(results.facts)
    command, settings = facts.pop("command", ""), facts.pop("settings", None)
    return "" if command == shown else command, _yaml(facts), _yaml(settings)


def _in_lines(command: str) -> str:
    """Return a command with each option on a line of its own, to be typed again as it stands."""
    with suppress(ValueError):  # no shell's words: it stays as it is
        words = [shlex.quote(word) for word in shlex.split(command)]
        if len(command) > LONGEST_COMMAND:
            return " ".join(f"\\\n  {word}" if word.startswith("--") else word for word in words)
    return command


def _yaml(values: Any) -> str:
    """Return values as YAML, without what isn't set."""
    kept = _without_null(values)
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100) if kept else ""


def _without_null(values: Any) -> Any:
    if isinstance(values, Mapping):
        kept = {key: _without_null(value) for key, value in values.items()}
        return {key: value for key, value in kept.items() if value not in (None, {}, [], ())}
    if isinstance(values, list | tuple):
        return [_without_null(value) for value in values]
    return float(f"{values:.4g}") if isinstance(values, float) else values
