"""Kinds of vector store: those that are there, and those that another package brings."""

from importlib.metadata import EntryPoint

import pytest

from dalm.errors import UserError
from dalm.retrieval import store_kinds
from dalm.retrieval.store_kinds import STORES, StoreKind, StorePlace, store_kind


@pytest.mark.parametrize("kind", STORES.values(), ids=list(STORES))
def test_a_kind_has_a_name_and_a_label(kind: StoreKind) -> None:
    assert STORES[kind.name] is kind
    assert kind.label
    assert bool(kind.needs) == (kind.extra is not None)


def test_a_store_of_another_package_has_fp32_vectors_unless_it_says_more() -> None:
    kind = StoreKind(name="other", label="o", path="no:where")
    kind.check_vectors("fp32")
    with pytest.raises(UserError, match="--store other has no int8 vectors; choose --vectors fp32"):
        kind.check_vectors("int8")
    more = StoreKind(name="other", label="o", path="no:where", vectors=("fp32", "int8"))
    more.check_vectors("int8")
    with pytest.raises(UserError, match="choose --vectors fp32 or int8, or another store"):
        more.check_vectors("binary")


@pytest.mark.parametrize(("extra", "package"), [("some", r"indomain\[some\]"), (None, "no_such")])
def test_a_missing_package_is_refused_with_what_installs_it(tmp_path, extra, package) -> None:
    kind = StoreKind(name="other", label="o", path="no:where", needs=("no_such",), extra=extra)
    with pytest.raises(UserError, match=f'other needs no_such: pip install "{package}"'):
        kind.open(StorePlace(folder=tmp_path, table="t", dim=2))


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> EntryPoint:
    found = EntryPoint("other", "somewhere:KIND", store_kinds.ENTRY_POINTS)
    monkeypatch.setattr("dalm.plugins.entry_points", lambda group: [found])
    return found


def test_what_cannot_be_taken_from_another_package_is_one_line(entry, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"choose one of lance, .*other"):
        store_kind("flat")
    with pytest.raises(UserError, match=r"other' \(somewhere:KIND\) can't be loaded"):
        store_kind("other")
    monkeypatch.setattr(EntryPoint, "load", lambda self: dict)
    with pytest.raises(UserError, match="is a type, not a StoreKind"):
        store_kind("other")


def test_a_package_that_is_installed_brings_a_store(tmp_path, monkeypatch) -> None:
    module = tmp_path / "shelf_store.py"
    module.write_text(
        "from dalm.retrieval.exact import ExactIndex\n"
        "from dalm.retrieval.store_kinds import StoreKind\n"
        "class Shelf(ExactIndex):\n"
        "    def __init__(self, place):\n"
        "        super().__init__()\n"
        "        self.table = place.table\n"
        "KIND = StoreKind(name='shelf', label='a shelf', path='shelf_store:Shelf')\n"
    )
    metadata = tmp_path / "shelf-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[dalm.vector_stores]\nshelf = shelf_store:KIND\n")
    monkeypatch.syspath_prepend(tmp_path)
    store = store_kind("shelf").open(StorePlace(folder=tmp_path, table="t1", dim=2))
    assert store.table == "t1"
    assert store.count() == 0
