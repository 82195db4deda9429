"""Find and load what other packages register as entry points."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dalm.errors import UserError


def entry_points_of(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group, such as `dalm.objectives`, by name."""
    return {entry.name: entry for entry in entry_points(group=group)}


def load_entry_point(entry: EntryPoint) -> Any:
    """Return what an entry point names.

    Raises:
        UserError: it can't be imported.
    """
    try:
        return entry.load()
    except Exception as error:  # whatever the other package raises
        kind = entry.group.removeprefix("dalm.").removesuffix("s").replace("_", " ")
        raise UserError(
            f"{kind} {entry.name!r} ({entry.value}) can't be loaded: {error}; update or remove the "
            "package that brings it"
        ) from error
