from dataclasses import dataclass

import pytest

from dalm.ingest.loaders import (
    LOADERS,
    by_extension,
    find_files,
    list_formats,
    read_documents,
    registered,
)
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions, Skipped


def test_a_file_that_goes_away_is_reported(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    [file], _ = find_files([str(tmp_path)])
    (tmp_path / "a.txt").unlink()
    [found] = read_documents(file, LoaderOptions())
    assert isinstance(found, Skipped)
    assert "No such file" in found.reason


def load_notes(data: bytes, source: str, options: LoaderOptions) -> Document:
    return Document(data.decode().upper(), "Notes", source)


def load_slides(data: bytes, source: str, options: LoaderOptions) -> Document:
    import no_such_package  # noqa: F401

    raise AssertionError


NOTES = Loader("notes", "notes", (".note",), load_notes)
SLIDES = Loader("slides", "slides", (".slides",), load_slides, extra="slides")


@dataclass
class EntryPoint:
    """As an installed package declares it."""

    value: str
    loader: Loader | Exception
    group: str = "dalm.loaders"

    @property
    def name(self) -> str:
        return self.value

    def load(self) -> Loader:
        if isinstance(self.loader, Exception):
            raise self.loader
        return self.loader


@pytest.fixture
def plugins(monkeypatch):
    broken = EntryPoint("broken:LOADER", ImportError("no module named broken"))
    entries = [EntryPoint("a:NOTES", NOTES), broken, EntryPoint("b:SLIDES", SLIDES)]

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == "dalm.loaders"
        return entries

    monkeypatch.setattr("dalm.plugins.entry_points", entry_points)
    registered.cache_clear()
    by_extension.cache_clear()
    yield
    registered.cache_clear()
    by_extension.cache_clear()


def test_a_loader_of_another_package_is_used(plugins, document, unread, caplog):
    assert document("a.NOTE", "some text").text == "SOME TEXT"
    assert ".note, .slides" in unread("a.png", "x")
    assert document("a.md", "# Text").title == "Text"
    assert "(broken:LOADER) can't be loaded: no module named broken" in caplog.text


def test_a_missing_dependency_names_the_extra(plugins, unread):
    assert unread("a.slides", "x") == (
        'loading slides needs no_such_package: pip install "indomain[slides]"'
    )


def test_every_loader_is_complete():
    extensions = [extension for loader in LOADERS.values() for extension in loader.extensions]
    assert len(set(extensions)) == len(extensions)
    for name, loader in LOADERS.items():
        assert loader.name == name
        assert loader.label in list_formats()
        assert all(each.startswith(".") and each == each.lower() for each in loader.extensions)
