"""A tuned model's folder in; its card out: data, lineage, settings, figures, licence.

The card is README.md as the Hugging Face hub reads it: facts for machines between two lines of
dashes, words for people below. The lineage of a base with a card of its own goes on in it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from dalm import config as options
from dalm.training import metrics_log

Role = Literal["retriever", "generator"]
UNKNOWN = "unknown: check"
SCRATCH = "none: made from nothing"
"""In place of a base's name."""
CARD = "README.md"
_TAGS = {
    "retriever": ("sentence-similarity", ["sentence-transformers", "feature-extraction"]),
    "generator": ("text-generation", []),
}
_QUIET = {*metrics_log.CLOCK, "epoch", "grad_norm"}
"""Figures of a line of metrics that say nothing about the model."""


def write(
    folder: Path,
    role: Role,
    base: str,
    settings: options.Training,
    inputs: Mapping[str, str],
    *,
    data: str,
    weights: tuple[int, int],
) -> None:
    """Write the card of a model that a training command exports.

    `inputs` are the command's arguments, `data` says in words how much there was, `weights` counts
    all and the trained ones.
    """
    table = inputs.get("dataset_path") or next(iter(inputs.values()))
    step = {"model": base, "by": f"dalm {settings.command}", "data": table}
    kept = options.public(settings, **inputs)
    last = _last_line(Path(settings.output_dir) / "metrics.jsonl")
    sections = {
        "Data": f"`{table}`: {data}.",
        "Weights": f"{weights[0]:,}, of which {weights[1]:,} were trained.",
        "Figures": _figures(last),
        "Settings": f"```yaml\n{yaml.safe_dump(kept, sort_keys=False)}```",
    }
    _write(folder, role, base, step, sections=sections)


def write_merged(folder: Path, role: Role, tuned: str, base: str, settings: options.Merge) -> None:
    """Write the card of a model that `dalm merge` writes."""
    step = {"model": tuned, "by": "dalm merge", "data": f"{settings.weight:g} of it on {base}"}
    kept = yaml.safe_dump(options.public(settings, adapter=tuned), sort_keys=False)
    weighed = f"{settings.weight:g} · `{tuned}` + {1 - settings.weight:g} · `{base}`."
    sections = {"Weights": weighed, "Settings": f"```yaml\n{kept}```"}
    _write(folder, role, tuned, step, sections=sections, base=base)


def of_repository(models: Sequence[Path]) -> str:
    """Return the card of a repository that holds some models, each in a folder of its own."""
    fronts = [_card(str(folder)) for folder in models]
    licences = {str(front.get("license", "unknown")) for front in fronts}
    bases = sorted({str(front["base_model"]) for front in fronts if "base_model" in front})
    front: dict[str, Any] = {"license": licences.pop() if len(licences) == 1 else "other"}
    front |= {"tags": ["dalm"]} | ({"base_model": bases} if bases else {})
    listed = "\n".join(f"- [{folder.name}]({folder.name}/{CARD})" for folder in models)
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n# Tuned with DALM\n\n{listed}\n"


def _write(
    folder: Path,
    role: Role,
    before: str,
    step: Mapping[str, str],
    *,
    sections: Mapping[str, str],
    base: str | None = None,
) -> None:
    """Write a card whose lineage goes on from that of the model before."""
    known = _lineage(before)
    lineage = [*known, dict(step)]
    first = known[0]["model"] if known else base or before
    licence = licence_of(first)
    front = _front(folder, role, first, licence, lineage)
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n",
        f"# {role.capitalize()} tuned with DALM\n",
        "## Lineage\n\n" + "\n".join(f"{n}. {_told(s)}" for n, s in enumerate(lineage, 1)) + "\n",
        f"## Licence\n\n{_licence_told(first, licence)}\n",
        *(f"## {name}\n\n{text}\n" for name, text in sections.items()),
    ]
    (folder / CARD).write_text("\n".join(parts), encoding="utf-8")


def _licence_told(base: str, licence: str) -> str:
    if base == SCRATCH:
        return "No base: that of the texts it was made from holds; check."
    return f"Of the base, `{base}`: {licence}."


def _told(step: Mapping[str, str]) -> str:
    return f"`{step['model']}`, then `{step['by']}` on `{step['data']}`"


def _front(
    folder: Path, role: Role, base: str, licence: str, lineage: list[dict[str, str]]
) -> dict[str, Any]:
    adapter = (folder / "adapter_config.json").is_file()
    task, tags = _TAGS[role]
    library = "sentence-transformers" if role == "retriever" else "transformers"
    front: dict[str, Any] = {
        "license": "unknown" if licence == UNKNOWN else licence,
        "library_name": "peft" if adapter and role == "generator" else library,
        "pipeline_tag": task,
        "tags": ["dalm", *tags],
    }
    if _is_hub_name(base):
        front |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"}
    return front | {"lineage": lineage}


def _is_hub_name(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not Path(name).exists()


def _lineage(name: str) -> list[dict[str, str]]:
    """Return the steps that led to a model, by its card; none if it has none."""
    found = _card(name).get("lineage")
    steps = found if isinstance(found, list) else []
    return [step for step in steps if isinstance(step, dict) and {"model", "by", "data"} <= {*step}]


def licence_of(name: str) -> str:
    """Return a model's licence by its card, or by its config; else that it is unknown."""
    for facts in (_card(name), _config(name)):
        licence = facts.get("license")
        if isinstance(licence, str) and licence and licence != "unknown":
            return str(facts.get("license_name") or licence) if licence == "other" else licence
    return UNKNOWN


def _card(name: str) -> dict[str, Any]:
    found = re.match(r"---\r?\n(.*?)\r?\n---\s", _text(name, CARD), re.DOTALL)
    try:
        facts = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _config(name: str) -> dict[str, Any]:
    try:
        facts = json.loads(_text(name, "config.json") or "{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _text(name: str, file: str) -> str:
    """Return a file of a model, from its folder or from the hub; nothing if it isn't there."""
    from transformers.utils import cached_file

    path: Path | None = Path(name) / file
    if not Path(name).is_dir():
        try:
            found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        except (
            OSError,
            ValueError,
        ):  # no hub name; or the hub is out of reach, and it was never downloaded
            return ""
        path = Path(found) if found else None
    if path is None or not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _last_line(file: Path) -> dict[str, float]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return json.loads(lines[-1]) if lines else {}


def _figures(line: Mapping[str, float]) -> str:
    """Return the last logged step's figures as a table; they are of training, not of a test."""
    if not line:
        return "None were logged."
    # Bits per byte are of held-out texts; the data section tells them.
    shown = {k: v for k, v in line.items() if k not in _QUIET and not k.endswith("_bits_per_byte")}
    table = "\n".join(f"| {name} | {value:.6g} |" for name, value in shown.items())
    return (
        f"Of the last logged step, on the training data:\n\n| figure | value |\n|---|---|\n{table}"
    )
