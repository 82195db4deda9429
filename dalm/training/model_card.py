"""Write the model card of a tuned model: data, lineage, settings, metrics, licence.

The card is README.md as the Hugging Face hub reads it: metadata in YAML front matter, text below.
The lineage of the base's card is continued.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.repocard import metadata_load

from dalm import artifacts, file_reading
from dalm import config as options
from dalm.models.export_check import Role
from dalm.prompts import describe, saved_settings
from dalm.training import metrics_log

UNKNOWN = "unknown: check"
SCRATCH = "none: made from nothing"
"""In place of a base's name."""
CARD = "README.md"
_TAGS = {
    "retriever": ("sentence-similarity", ["sentence-transformers", "feature-extraction"]),
    "generator": ("text-generation", []),
    "reranker": ("text-ranking", ["sentence-transformers", "cross-encoder", "reranker"]),
}
_ORDER = ["license", "library_name", "pipeline_tag", "tags", "base_model", "base_model_relation"]
"""Order of the metadata; the lineage follows."""
_WRITTEN = ("Lineage", "Licence", "Prompt")
"""Sections of every card."""
_QUIET = {*metrics_log.CLOCK, "epoch", "grad_norm"}
"""Keys of a line of metrics that say nothing about the model."""


def write(
    folder: Path,
    role: Role,
    settings: options.Training,
    inputs: Mapping[str, str],
    *,
    data: str,
    weights: tuple[int, int],
) -> None:
    """Write the card of a model that a training command exports.

    `inputs` are the command's arguments, among them the base's name. `data` is a line on the
    training data, `weights` counts all weights and the trained ones.
    """
    base = inputs.get(f"{role}_name_or_path", SCRATCH)
    table = inputs.get("dataset_path") or next(iter(inputs.values()))
    step = {"model": base, "by": f"dalm {settings.command}", "data": table}
    kept = options.public(settings, **inputs)
    last = metrics_log.last_line(Path(settings.output_dir) / metrics_log.FILE)
    sections = {
        "Data": f"`{table}`: {data}.",
        "Weights": f"{weights[0]:,}, of which {weights[1]:,} were trained.",
        "Figures": _figures(last),
        "Settings": f"```yaml\n{yaml.safe_dump(kept, sort_keys=False)}```",
    }
    if role == "retriever" and (dims := getattr(settings, "matryoshka_dims", None)):
        sections["Dimensions"] = _dimensions(dims)
    _write(folder, role, base, step, sections=sections)


def _dimensions(dims: Sequence[int]) -> str:
    """Say what the vectors of a retriever can be cut to (Matryoshka)."""
    sizes = ", ".join(map(str, sorted(dims)))
    return (
        f"Vectors were trained whole and cut to their first {sizes} dimensions (Matryoshka): "
        f"`SentenceTransformer(folder, truncate_dim={min(dims)})` gives the smallest ones."
    )


def write_merged(folder: Path, role: Role, tuned: str, base: str, settings: options.Merge) -> None:
    """Write the card of a model that `dalm merge` writes."""
    step = {"model": tuned, "by": "dalm merge", "data": f"{settings.weight:g} of it on {base}"}
    kept = yaml.safe_dump(options.public(settings, adapter=tuned), sort_keys=False)
    weighted = f"{settings.weight:g} · `{tuned}` + {1 - settings.weight:g} · `{base}`."
    sections = {"Weights": weighted, "Settings": f"```yaml\n{kept}```"}
    _write(folder, role, tuned, step, sections=sections, base=base)


def write_exported(
    folder: Path, role: Role, tuned: str, base: str | None, settings: options.Export
) -> None:
    """Write the card of a model that `dalm export` writes: the tuned model's, brought up to date.

    `base` is what its adapters were merged into.
    """
    step = {"model": tuned, "by": "dalm export", "data": base or tuned}
    sections = _sections(tuned) if _lineage(tuned) else {}
    kept = yaml.safe_dump(options.public(settings, tuned=tuned), sort_keys=False)
    sections["Export"] = f"```yaml\n{kept}```"
    _write(folder, role, tuned, step, sections=sections, base=base)


def _sections(name: str) -> dict[str, str]:
    """Return the sections of a model's card that `_write` doesn't write itself."""
    file = _file(name, CARD)
    text = file.read_text(encoding="utf-8") if file else ""
    _, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    found = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    return {title: body for title, body in found.items() if title not in _WRITTEN}


def repository_card(models: Sequence[Path]) -> str:
    """Return the card of a hub repository that holds models, each in a folder of its own."""
    fronts = [_card(str(folder)) for folder in models]
    licences = {str(front.get("license", "unknown")) for front in fronts}
    bases = sorted({str(front["base_model"]) for front in fronts if "base_model" in front})
    front = ModelCardData(
        license=licences.pop() if len(licences) == 1 else "other",
        tags=["dalm"],
        base_model=bases or None,
    )
    listed = "\n".join(f"- [{folder.name}]({folder.name}/{CARD})" for folder in models)
    return f"{_front_matter(front)}# Tuned with DALM\n\n{listed}\n"


def _write(
    folder: Path,
    role: Role,
    before: str,
    step: Mapping[str, str],
    *,
    sections: Mapping[str, str],
    base: str | None = None,
) -> None:
    """Write a card whose lineage continues that of the model before."""
    known = _lineage(before)
    lineage = [*known, dict(step)]
    first = known[0]["model"] if known else base or before
    licence = licence_of(first)
    of_base = f"Of the base, `{first}`: {licence}."
    if first == SCRATCH:
        of_base = "No base: the licences of the training texts apply; check."
    steps = (f"`{each['model']}`, then `{each['by']}` on `{each['data']}`" for each in lineage)
    written = {
        "Lineage": "\n".join(f"{number}. {line}" for number, line in enumerate(steps, 1)),
        "Licence": of_base,
    }
    if role == "generator" and (template := saved_settings(str(folder)).template):
        written["Prompt"] = describe(template)
    parts = [
        _front_matter(_metadata(folder, role, first, licence, lineage)),
        f"# {role.capitalize()} tuned with DALM\n",
        *(f"## {name}\n\n{text}\n" for name, text in (written | dict(sections)).items()),
    ]
    artifacts.write_text(folder / CARD, "\n".join(parts))


def _metadata(
    folder: Path, role: Role, base: str, licence: str, lineage: list[dict[str, str]]
) -> ModelCardData:
    adapter = (folder / "adapter_config.json").is_file()
    task, tags = _TAGS[role]
    library = "transformers" if role == "generator" else "sentence-transformers"
    on_hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) is not None and not Path(base).exists()
    return ModelCardData(
        license="unknown" if licence == UNKNOWN else licence,
        library_name="peft" if adapter and role == "generator" else library,
        pipeline_tag=task,
        tags=["dalm", *tags],
        base_model=base if on_hub else None,
        base_model_relation=("adapter" if adapter else "finetune") if on_hub else None,
        lineage=lineage,
    )


def _front_matter(data: ModelCardData) -> str:
    return f"---\n{data.to_yaml(original_order=_ORDER)}\n---\n"


def _lineage(name: str) -> list[dict[str, str]]:
    """Return the steps that led to a model, from its card; none without one."""
    found = _card(name).get("lineage")
    steps = found if isinstance(found, list) else []
    return [step for step in steps if isinstance(step, dict) and {"model", "by", "data"} <= {*step}]


def licence_of(name: str) -> str:
    """Return a model's licence from its card, or from its config; else that it is unknown."""
    for facts in (_card(name), _config(name)):
        licence = facts.get("license")
        if isinstance(licence, str) and licence and licence != "unknown":
            return str(facts.get("license_name") or licence) if licence == "other" else licence
    return UNKNOWN


def _card(name: str) -> dict[str, Any]:
    file = _file(name, CARD)
    try:
        return (file and metadata_load(file)) or {}
    except (OSError, ValueError, yaml.YAMLError):  # somebody else's card
        return {}


def _config(name: str) -> dict[str, Any]:
    file = _file(name, "config.json")
    try:
        return file_reading.read_json(file) if file else {}
    except file_reading.DamagedError:
        return {}


def _file(name: str, file: str) -> Path | None:
    """Return a file of a model, from its folder or from the hub; None if it isn't there."""
    from transformers.utils import cached_file

    path: Path | None = Path(name) / file
    if not Path(name).is_dir():
        try:
            found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError):  # no hub name, or the hub is out of reach
            return None
        path = Path(found) if found else None
    return path if path is not None and path.is_file() else None


def _figures(line: Mapping[str, float]) -> str:
    """Return the last logged step's metrics as a table; they are of training, not of a test."""
    if not line:
        return "None were logged."
    # Bits per byte are of held-out texts; the section on data has them.
    kept = {k: v for k, v in line.items() if k not in _QUIET and not k.endswith("_bits_per_byte")}
    table = "\n".join(f"| {name} | {value:.6g} |" for name, value in kept.items())
    return (
        f"Of the last logged step, on the training data:\n\n| figure | value |\n|---|---|\n{table}"
    )
