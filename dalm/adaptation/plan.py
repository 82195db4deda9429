"""Decide of each stage whether it runs, and say why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dalm.adaptation.contents import MISSING, content_of, count_of
from dalm.adaptation.stages import Stage
from dalm.adaptation.state import Record, State
from dalm.config.adaptation import STAGES, Adapt
from dalm.config.options import spelled
from dalm.errors import UserError

Choice = Literal["runs", "kept", "skipped", "left"]
OWN = ("serves", "judgments")
"""Settings that are no options: what the index serves, and the feedback there is."""
NOT_SET = ("its default", "none")
NAMED = 3
"""Changed settings that a reason names."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stage, whether it runs, and why; `resumes`: it was begun and goes on where it was."""

    stage: Stage
    choice: Choice
    reason: str
    resumes: bool = False


def record_of(stage: Stage) -> Record:
    """Return what a stage reads and its settings, as they are now."""
    reads = {name: content_of(source) for name, source in stage.reads.items()}
    counts = {name: count_of(source) for name, source in stage.reads.items()}
    settings = json.loads(json.dumps(dict(stage.settings)))
    return Record(settings, reads, counts={name: n for name, n in counts.items() if n})


def written_by(stage: Stage) -> str:
    """Return the hash of what a stage has written."""
    parts = [content_of(path) for path in stage.writes]
    return MISSING if MISSING in parts else "".join(part[:16] for part in parts)


def decide(stage: Stage, state: State, choice: Adapt, running: Sequence[str] = ()) -> Step:
    """Return whether a stage runs, and why.

    `running` are stages that run before it and whose results aren't known yet.

    Raises:
        UserError: a stage before `--from` has no result.
    """
    order = STAGES.index(stage.name)
    if choice.to_stage and order > STAGES.index(choice.to_stage):
        return Step(stage, "left", f"after --to {choice.to_stage}")
    known = state.stages.get(stage.name)
    is_forced = choice.from_stage is not None and order >= STAGES.index(choice.from_stage)
    if choice.from_stage and not is_forced:
        return _kept_by_from(stage, known, choice.from_stage)
    if not running and (why := stage.skip()):
        return Step(stage, "skipped", why)
    now, begun = record_of(stage), state.begun.get(stage.name)
    if begun and not running and (begun.settings, begun.reads) == (now.settings, now.reads):
        return Step(stage, "runs", "it was begun and not finished: goes on", resumes=True)
    why = _first(known, begun) or (f"--from {choice.from_stage}" if is_forced else None)
    if known is not None:
        why = why or _damage(stage, known) or changes(known, now)
    if not why and running:
        why = f"if what {running[-1]} writes differs"
    return Step(stage, "runs", why) if why else Step(stage, "kept", "nothing changed")


def _first(known: Record | None, begun: Record | None) -> str | None:
    if known is not None:
        return None
    return "first time" if begun is None else "it was begun with other inputs or settings"


def _kept_by_from(stage: Stage, known: Record | None, first: str) -> Step:
    if known is None and (why := stage.skip()):
        return Step(stage, "skipped", why)
    if known is None or written_by(stage) == MISSING:
        raise UserError(f"--from {first}: there is no result of {stage.name} yet; leave --from out")
    changed = changes(known, record_of(stage)) or _damage(stage, known)
    return Step(stage, "kept", f"before --from {first}" + (f", though {changed}" * bool(changed)))


def stands(step: Step, state: State) -> bool:
    """Tell whether what a stage wrote is there, of what it would read now."""
    known = state.stages.get(step.stage.name)
    if known is None or step.choice == "kept":
        return known is not None
    return not (_damage(step.stage, known) or changes(known, record_of(step.stage)))


def _damage(stage: Stage, known: Record) -> str | None:
    if not stage.is_there():
        return f"its output is missing ({stage.folder.name})"
    written = written_by(stage)
    if written == MISSING:
        gone = [path.name for path in stage.writes if content_of(path) == MISSING]
        return f"its output is missing ({', '.join(gone)})"
    return None if written == known.writes else "its output was changed or damaged"


def changes(known: Record, now: Record) -> str | None:
    """Return which inputs and settings differ, in words; None: nothing."""
    found = []
    for name in sorted({*known.reads, *now.reads}):
        if known.reads.get(name) != now.reads.get(name):
            counts = [each.counts.get(name) for each in (now, known)]
            files = f" ({counts[0]} files, {counts[1]} before)" if counts[0] != counts[1] else ""
            found.append(f"{name} changed{files}")
    differing = [
        name
        for name in sorted({*known.settings, *now.settings})
        if known.settings.get(name) != now.settings.get(name)
    ]
    found += [_setting(name, known.settings, now.settings) for name in differing[:NAMED]]
    if more := len(differing) - NAMED:
        found += [f"{more} more settings changed"] if more > 0 else []
    return "; ".join(found) or None


def _setting(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old, new = (_shown(values.get(name, NOT_SET[name in OWN])) for values in (before, after))
    named = name if name in OWN else spelled(name)
    return f"{named} changed from {old} to {new}"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"[:40]
