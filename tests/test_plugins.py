"""Entry points: found by name, loaded, and named where they can't be."""

from importlib.metadata import EntryPoint

import pytest

from dalm import plugins
from dalm.errors import UserError


def test_entry_points_of_a_group_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "pathlib:Path", "dalm.objectives")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] * (group == entry.group))
    assert plugins.entry_points_of("dalm.objectives") == {"mine": entry}
    assert plugins.entry_points_of("dalm.loaders") == {}
    assert plugins.load_entry_point(entry).__name__ == "Path"


@pytest.mark.parametrize("value", ["no_such_module:x", "pathlib:no_such_name"])
def test_what_can_not_be_imported_is_named(value: str) -> None:
    entry = EntryPoint("mine", value, "dalm.vector_stores")
    with pytest.raises(UserError, match=r"^vector store 'mine' .*can't be loaded: .*no_such_.*;"):
        plugins.load_entry_point(entry)
