"""Describe a stage: its command, what it reads and writes, its settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import dalm
from dalm.adaptation.stage_options import settings_of
from dalm.config import public
from dalm.config.options import check

FREE = {
    *("output_dir", "output", "index_dir", "overwrite_output", "overwrite_output_dir", "device"),
    *("cache", "cache_dir", "processes", "trust_remote_code", "report"),
    *("logging_steps", "checkpointing_steps", "checkpoints_kept", "with_tracking", "report_to"),
    *("hub_model_id", "concurrency", "max_retries", "timeout", "api_key_env", "as_csv"),
}
"""Options that don't change what a stage computes."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of an adaptation.

    `reads` are files, folders and models by what they are, `writes` what it leaves. `settings` are
    those that its result depends on. `run` is called with whether the stage was begun before with
    the same inputs and settings. `skip` is why there is nothing to do, once earlier stages ran.
    """

    name: str
    command: str
    folder: Path
    reads: Mapping[str, "str | Path | Sequence[Path]"]
    writes: Sequence[Path]
    settings: Mapping[str, Any]
    run: Callable[[bool], None]
    skip: Callable[[], str | None] = field(default=lambda: None)
    is_there: Callable[[], bool] = field(default=lambda: True)
    """Whether what it keeps is there, besides `writes`."""
    options: Any = None
    """The options object of the stage's command; None: no command of its own."""
    arguments: Sequence[Any] = ()
    resumes: bool = False
    """Whether its command goes on from checkpoints when it is told to."""


def command_stage(
    name: str,
    command: str,
    folder: Path,
    *,
    arguments: Sequence[Any],
    paths: Mapping[str, Any],
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    **described: Any,
) -> Stage:
    """Return a stage that is a command of `dalm`.

    `paths` are options that name what earlier stages wrote, or models: their content is among
    `reads`, and their names no settings. `options` are the recipe's, `given` the user's, which win.

    Raises:
        UserError: an option that the command doesn't have, or a value that it refuses.
    """
    settings = settings_of(name, command, {**paths, **options}, given)
    check(settings)
    own = {each for each in paths if each not in given}
    left_out = own | FREE | _defaults(settings)
    kept = {name: value for name, value in public(settings).items() if name not in left_out}
    resumes = hasattr(settings, "resume_from_checkpoint")
    reads = {**described.pop("reads"), **_named(given)}

    def run(resume: bool) -> None:
        chosen = dict(paths) | dict(options)
        if resumes and resume and any(folder.glob("checkpoint-*")):
            chosen["resume_from_checkpoint"] = "latest"
        dalm.command(command)(*arguments, settings=settings_of(name, command, chosen, given))

    return Stage(
        name=name,
        command=command,
        folder=folder,
        reads=reads,
        settings=kept,
        run=run,
        options=settings,
        arguments=arguments,
        resumes=resumes,
        **described,
    )


def _defaults(settings: Any) -> set[str]:
    """Return the options that have their defaults: a new one of a later version changes nothing."""
    return {each.name for each in fields(settings) if getattr(settings, each.name) == each.default}


def _named(given: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files and folders that a user's options name, whose content counts."""
    found = {}
    for option, value in given.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and each.strip() and Path(each).exists():
                found[f"{option} {each}"] = Path(each)
    return found
