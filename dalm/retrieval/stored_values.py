"""Say what a vector store keeps of a passage beside its text: typed columns, and a hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from dalm.records import Passage
from dalm.retrieval.where import FIELDS, Columns

_KINDS = (bool, int, float, str)
_LARGEST = 2**63 - 1
"""Stores keep whole numbers in 64 bits."""


def digest_of(passage: Passage) -> str:
    """Return a hash of a passage's text and provenance: another one is a changed passage."""
    content = json.dumps(passage.to_dict(), sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def column_types(passages: Iterable[Passage]) -> dict[str, type]:
    """Return the types of the passages' further columns.

    A column is of numbers or of true and false only if all its values are, and whole numbers fit
    into 64 bits; else it is of texts.
    """
    found: dict[str, set[type]] = {}
    for passage in passages:
        for name, value in passage.extra.items():
            if value is not None and name not in FIELDS:
                found.setdefault(name, set()).add(str if _is_too_large(value) else type(value))
    return {name: _common(kinds) for name, kinds in found.items()}


def _common(kinds: set[type]) -> type:
    if len(kinds) == 1 and (kind := next(iter(kinds))) in _KINDS:
        return kind
    return float if kinds == {int, float} else str


def values_of(passage: Passage, columns: Columns) -> dict[str, Any]:
    """Return a passage's values of columns, each of its column's type; None: it has none.

    A value that isn't of its column's type counts as missing in conditions.
    """
    values: Mapping[str, Any] = {
        **passage.extra,
        "id": passage.id,
        "text": passage.text,
        "title": passage.title or None,
        "document": passage.document or None,
        "source": passage.source or None,
        "page": passage.page,
    }
    return {name: _as(values.get(name), kind) for name, kind in columns.items()}


def _as(value: Any, kind: type) -> Any:
    if kind is str and value is not None:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if value is None or _is_too_large(value):
        return None
    if type(value) is kind:
        return value
    return float(value) if kind is float and type(value) is int else None


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and not -_LARGEST <= value <= _LARGEST
