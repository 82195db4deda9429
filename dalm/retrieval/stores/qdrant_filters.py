"""Write conditions as Qdrant's filters, as far as they can say the same.

Qdrant knows no unknown: a filter is written for where a condition is true, and another for where it
is false, and a passage without the value is in neither. Ranges of numbers, equal texts and missing
values are said exactly. `like`, an order of texts, and numbers that fp64 doesn't hold exactly are
left over, to be tried on the passages found.
"""

from collections.abc import Callable
from typing import Any

from qdrant_client import models

from dalm.retrieval.conditions import Comparison, Condition, IsNull, Joined, Like, Membership, Not
from dalm.retrieval.stores.qdrant_words import clean

Key = Callable[[str], str]
"""Give the key that a column has in a point."""
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_NEGATED = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_EXACT = 2**53
"""Whole numbers below are exact in fp64, by which Qdrant compares."""


class _UnsayableError(Exception):
    """Qdrant has no filter for a condition."""


def split(condition: Condition | None, key: Key) -> tuple[models.Filter | None, Condition | None]:
    """Return a filter, and what is left of the condition for the passages that it lets through."""
    parts = (
        condition.conditions
        if isinstance(condition, Joined) and not condition.decisive
        else [condition]
        if condition is not None
        else []
    )
    said: list[Any] = []
    rest: list[Condition] = []
    for part in parts:
        try:
            said.append(_filter(part, key, truth=True))
        except _UnsayableError:
            rest.append(part)
    return models.Filter(must=said) if said else None, Joined(False, tuple(rest)) if rest else None


def columns_of(condition: Condition | None) -> set[str]:
    """Return the columns that a condition names."""
    match condition:
        case None:
            return set()
        case Not(inner):
            return columns_of(inner)
        case Joined(_, parts):
            return set().union(*map(columns_of, parts))
        case Comparison() | Membership() | Like() | IsNull():
            return {condition.column}
    raise AssertionError(condition)


def _filter(condition: Condition, key: Key, *, truth: bool) -> models.Filter:
    """Return the filter for where a condition is true, or where it is false."""
    match condition:
        case Not(inner):
            return _filter(inner, key, truth=not truth)
        case Joined(decisive, parts):
            found: list[Any] = [_filter(part, key, truth=truth) for part in parts]
            return models.Filter(should=found) if decisive == truth else models.Filter(must=found)
        case IsNull(column):
            missing: list[Any] = [_missing(key(column))]
            return models.Filter(must=missing) if truth else models.Filter(must_not=missing)
        case Membership(column, values):
            equal = tuple(Comparison(column, "=", value) for value in values)
            return _filter(Joined(True, equal), key, truth=truth)
        case Comparison(column, operator, value) if column != "text":  # which has no index
            name = operator if truth else _NEGATED[operator]
            return _comparison(key(column), name, value)
    raise _UnsayableError


def _comparison(key: str, operator: str, value: Any) -> models.Filter:
    if operator in _BOUNDS:
        return models.Filter(must=[_range(key, **{_BOUNDS[operator]: value})])
    if isinstance(value, str) and clean(value) != value:
        raise _UnsayableError
    if isinstance(value, str | bool):
        equal = models.FieldCondition(key=key, match=models.MatchValue(value=value))
    else:
        equal = _range(key, gte=value, lte=value)
    if operator == "=":
        return models.Filter(must=[equal])
    return models.Filter(must_not=[equal, _missing(key)])


def _range(key: str, **bounds: Any) -> models.FieldCondition:
    for bound in bounds.values():
        if isinstance(bound, str | bool) or (isinstance(bound, int) and abs(bound) >= _EXACT):
            raise _UnsayableError
    return models.FieldCondition(key=key, range=models.Range(**bounds))


def _missing(key: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
