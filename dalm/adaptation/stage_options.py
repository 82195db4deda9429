"""Read options of stages from YAML or a mapping, and bind them as their commands do."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Dict

from dalm import config, file_reading
from dalm.config.adaptation import STAGES
from dalm.errors import UserError, reason_of
from dalm.file_reading import user_path

OPTIONS: dict[str, type[Any]] = {
    "passages": config.Passages,
    "qa-gen": config.QaGen,
    "mine-negatives": config.MineNegatives,
    "train-retriever-only": config.RetrieverOnly,
    "train-generator-only": config.GeneratorOnly,
    "train-rag-e2e": config.RagE2E,
    "eval-rag": config.EvalRag,
    "eval-retriever": config.EvalRetriever,
    "index": config.Index,
}
"""The options class of each command that is a stage."""
OWN_STAGES = ("tables", "verdict")
"""Stages without a command, and without options."""
REFUSED = {
    *("output_dir", "output", "index_dir", "dry_run", "limit", "resume_from_checkpoint"),
    *("rollback", "store_url", "hub_token"),
}
"""Options that the adaptation itself decides, or that don't fit in one."""
ASKED_BY = {"backend": "--backend", "base_url": "--base-url", "generator_name_or_path": "--model"}
"""Options of what writes the questions, and how dalm adapt spells them."""


def read_stage_options(source: str | Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return the options of stages, of a YAML file or a mapping, by the stages' names.

    Raises:
        UserError: no such file or stage, or no mapping.
    """
    found: Any = source or {}
    if isinstance(source, str):
        try:
            found = file_reading.parse_yaml(file_reading.read_text(user_path(source), "YAML")) or {}
        except (OSError, ValueError) as error:
            reason = reason_of(error)
            raise UserError(
                f"--stage-options {source}: {reason}; name a YAML file with options by stage"
            ) from error
    if not isinstance(found, Mapping):
        raise UserError("--stage-options: write a stage's name, and below it its options")
    for stage, options in found.items():
        if stage not in STAGES or stage in OWN_STAGES:
            known = ", ".join(each for each in STAGES if each not in OWN_STAGES)
            raise UserError(f"--stage-options: no stage {stage!r} with options; they are {known}")
        if options is not None and not isinstance(options, Mapping):
            raise UserError(f"--stage-options: {stage} is {options!r:.60}; write options below it")
        for name in options or {}:
            if _field(name) in REFUSED:
                raise UserError(f"--stage-options: {stage}: {name} is set by dalm adapt; remove it")
            if stage == "questions" and (option := ASKED_BY.get(_field(name))):
                raise UserError(
                    f"--stage-options: {stage}: {name} is {option} of dalm adapt; give it there"
                )
    return {
        stage: {_field(name): value for name, value in (options or {}).items()}
        for stage, options in found.items()
    }


def _field(name: object) -> str:
    return str(name).removeprefix("--").replace("-", "_")


def settings_of(
    stage: str, command: str, own: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> Any:
    """Return the options object of a command; those that are `given` win over the stage's own.

    What is given is checked as a --config file is.

    Raises:
        UserError: an unknown option, or a value of another type.
    """
    chosen = _converted(stage, command, json.dumps(given, default=str)) if given else {}
    return OPTIONS[command](**{**own, **chosen})


@cache  # binding takes a tenth of a second, and the stages are listed before each of them
def _converted(stage: str, command: str, given: str) -> dict[str, Any]:
    """Return options with the types that their command gives them."""
    kind, values = OPTIONS[command], json.loads(given)
    required = {each.name: "-" for each in fields(kind) if each.default is MISSING}
    app = App(result_action="return_value")

    def bind(**settings: Any) -> Any:
        return settings["settings"]

    hint, only = Annotated[kind, Parameter(name="*")], inspect.Parameter.KEYWORD_ONLY
    default = inspect.Parameter.empty if required else kind()
    parameter = inspect.Parameter("settings", only, default=default, annotation=hint)
    bind.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    bind.__annotations__ = {"settings": hint}
    app.default(bind)
    named = {name: value for name, value in {**required, **values}.items() if value is not None}
    app.config = (Dict(named, source="--stage-options", use_commands_as_keys=False),)
    try:
        found = app([], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UserError(f"{stage} (dalm {command}): {error}") from error
    unknown = [name for name in values if not hasattr(found, name)]
    if unknown:  # null for what isn't an option
        raise UserError(f"{stage} (dalm {command}): no option {unknown[0]!r}")
    return {name: None if values[name] is None else getattr(found, name) for name in values}
