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
_ROW = re.compile(r"(?:, (?:line|item|row) \d+)?(?:, text \d+)?")
"""What follows a table's name in the source of one of its rows."""


@dataclass(slots=True)
class IndexedDocument:
    """A document of an index; `pages` is its last page that has a passage."""

    id: str
    """`Passage.document`; of a passage that names no document, its own id."""
    source: str
    title: str
    passages: int = 0
    pages: int | None = None


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


def passages_of(store: VectorStore, document: str) -> list[str]:
    """Return the ids of a document's passages, by its id in `list_documents`."""
    alone = Joined(False, (Comparison("id", "=", document), IsNull("document")))
    either = Joined(True, (Comparison("document", "=", document), alone))
    return [id_ for (id_,) in store.select(("id",), either)]


def passages_from(store: VectorStore, source: str) -> list[str]:
    """Return the ids of the passages of a file by the name it was stored under, rows included."""
    rows = Joined(True, (Comparison("source", "=", source), Like("source", _like(source) + ", %")))
    return [
        id_
        for id_, found in store.select(("id", "source"), rows)
        if found.startswith(source) and _ROW.fullmatch(found, len(source))
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
