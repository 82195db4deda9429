"""List, replace and delete the documents whose passages an index holds."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dalm.records import Passage, distinct_by_id
from dalm.retrieval.base import VectorStore
from dalm.retrieval.conditions import Comparison, Condition, IsNull, Joined, Like, Membership
from dalm.retrieval.stored_values import values_of

Encode = Callable[[Sequence[str]], Float[Tensor, "n dim"]]
_ORIGIN = ("id", "document", "source", "title", "page")
ROW = re.compile(r"(?:, (?:line|item|row) \d+)?(?:, text \d+)?")
"""What follows a table's name in the source of one of its rows."""
_OF_A_ROW = re.compile(rf"{ROW.pattern}\Z")


@dataclass(slots=True)
class IndexedDocument:
    """A document of an index; `pages` is its last page that has a passage."""

    id: str
    """`Passage.document`; of a passage that names no document, its own id."""
    source: str
    title: str
    passages: int = 0
    pages: int | None = None


@dataclass(slots=True)
class Source:
    """A file of an index's passages; the rows of a table are one file."""

    name: str
    title: str
    rows: bool = False
    passages: int = 0

    @property
    def where(self) -> str:
        """The condition that its passages fulfil."""
        name = self.name.replace("'", "''")
        rows = f" or source like '{_like(name)}, %'" if self.rows else ""
        return f"source = '{name}'{rows}"

    def to_dict(self) -> dict[str, Any]:
        """Return the source as a JSON object."""
        named = {"source": self.name, "title": self.title}
        return {**named, "passages": self.passages, "where": self.where}


@dataclass(frozen=True, slots=True)
class Replaced:
    """What storing a document changed, in passages."""

    new: int
    changed: int
    unchanged: int
    deleted: int


def list_documents(store: VectorStore, where: Condition | None = None) -> list[IndexedDocument]:
    """Return the documents of an index, of the passages that fulfil a condition, by their sources.

    Those of one source are in the order of their ids.
    """
    found: dict[tuple[str, str], IndexedDocument] = {}
    for id_, document, source, title, page in store.select(_ORIGIN, where):
        key = (source or "", document or id_)
        known = found.setdefault(key, IndexedDocument(key[1], key[0], title or ""))
        known.passages += 1
        if page is not None:
            known.pages = max(page, known.pages or 0)
    return [found[key] for key in sorted(found)]


def list_sources(store: VectorStore) -> list[Source]:
    """Return the files of an index's passages by their names; passages without one are left out."""
    found: dict[str, Source] = {}
    for source, title in store.select(("source", "title")):
        if not source:
            continue
        name = file_of(source)
        known = found.setdefault(name, Source(name, title or ""))
        known.passages += 1
        known.rows |= name != source
    return [found[name] for name in sorted(found)]


def passages_of(store: VectorStore, document: str) -> list[str]:
    """Return the ids of a document's passages, by its id in `list_documents`."""
    alone = Joined(False, (Comparison("id", "=", document), IsNull("document")))
    either = Joined(True, (Comparison("document", "=", document), alone))
    return [id_ for (id_,) in store.select(("id",), either)]


def file_of(source: str) -> str:
    """Return the file of a source, which may be that of a table's row."""
    return _OF_A_ROW.sub("", source, count=1)


def neighbours_of(store: VectorStore, passage: Passage) -> tuple[Passage | None, Passage | None]:
    """Return the passages before and after one in its document; None where it isn't known.

    The order is that of their places in the document's text, else that of their pages if no two
    share one, else that in which they were added, if the store keeps it.
    """
    column = "document" if passage.document else "source"
    if not (name := getattr(passage, column)):
        return None, None
    same = store.select(("id",), Comparison(column, "=", name))
    found = list(store.passages_of([id_ for (id_,) in same]).values())
    if column == "source":
        found = [each for each in found if not each.document]
    if not store.keeps_order:
        found.sort(key=lambda each: each.id)
    if all(each.start is not None for each in found):
        found.sort(key=lambda each: (each.start or 0, each.end or 0))
    elif len({each.page for each in found} - {None}) == len(found):
        found.sort(key=lambda each: each.page or 0)
    elif not store.keeps_order:
        return None, None
    place = next((n for n, each in enumerate(found) if each.id == passage.id), None)
    if place is None:  # deleted or replaced a moment ago
        return None, None
    after = found[place + 1] if place + 1 < len(found) else None
    return found[place - 1] if place else None, after


def passages_from(store: VectorStore, source: str) -> list[str]:
    """Return the ids of the passages of a file by the name it was stored under, rows included."""
    rows = Joined(True, (Comparison("source", "=", source), Like("source", _like(source) + ", %")))
    return [
        id_
        for id_, found in store.select(("id", "source"), rows)
        if found.startswith(source) and ROW.fullmatch(found, len(source))
    ]


def _like(text: str) -> str:
    """Return a pattern that fits a text, and maybe others: wildcards have no escape."""
    return text.replace("%", "_")


def replace_document(
    store: VectorStore, source: str, passages: Iterable[Passage], encode: Encode
) -> Replaced:
    """Store the passages of a file in place of those that were stored under its name.

    A passage whose text is stored keeps its vector. New ones are stored before old ones are
    deleted, so that a search in between finds too much rather than nothing.
    """
    distinct = distinct_by_id(passages)
    ids = [passage.id for passage in distinct]
    stale = set(passages_from(store, source)) - set(ids)
    same = _unchanged(store, distinct)
    texts = store.texts_of(ids)
    written = [passage for passage in distinct if passage.id not in same]
    if written:
        store.add(written, _vectors(store, written, texts, encode))
    deleted = store.delete(sorted(stale)) if stale else 0
    new = sum(passage.id not in texts for passage in written)
    return Replaced(new, len(written) - new, len(same), deleted)


def _unchanged(store: VectorStore, passages: Sequence[Passage]) -> set[str]:
    """Return the ids of those passages that are stored with the same values of every column."""
    names = tuple(store.columns)
    place = names.index("id")
    ids = Membership("id", tuple(passage.id for passage in passages))
    stored: dict[str, tuple[Any, ...]] = {
        row[place]: tuple(row) for row in store.select(names, ids)
    }
    found = set()
    for passage in passages:
        values = values_of(passage, store.columns)
        if stored.get(passage.id) == tuple(values[name] for name in names):
            found.add(passage.id)
    return found


def _vectors(
    store: VectorStore, passages: Sequence[Passage], texts: dict[str, str], encode: Encode
) -> Float[Tensor, "n dim"]:
    """Return the passages' vectors: the stored ones where the texts are the same."""
    kept = [passage.id for passage in passages if texts.get(passage.id) == passage.text]
    vectors = dict(zip(kept, store.vectors_of(kept), strict=True))
    missing = [passage for passage in passages if passage.id not in vectors]
    if missing:
        encoded = encode([passage.text for passage in missing]).cpu()
        vectors |= dict(zip([passage.id for passage in missing], encoded, strict=True))
    return torch.stack([vectors[passage.id] for passage in passages])
