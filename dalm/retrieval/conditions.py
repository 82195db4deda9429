"""Apply conditions to passages, and write them in SQL.

With SQL's three-valued logic: a comparison with a value that is missing is neither true nor false.
Each vector store translates the parsed condition, so that no text of a user's reaches a database,
and all stores give the same passages. `dalm.retrieval.where` parses them.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Value = str | float | int | bool
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WILDCARDS = {"%": ".*", "_": "."}


class Condition(Protocol):
    """What a passage may fulfil."""

    def holds(self, values: Mapping[str, Any], /) -> bool | None:
        """Return whether the condition holds for a passage's values; None: not known."""

    def sql(self, column: Callable[[str], str], /) -> str:
        """Return the condition in SQL; `column` gives the SQL of a column's name."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`column operator value`."""

    column: str
    operator: str
    value: Value

    def holds(self, values: Mapping[str, Any]) -> bool | None:
        """Compare; None without a value."""
        value = values.get(self.column)
        return None if value is None else _COMPARE[self.operator](value, self.value)

    def sql(self, column: Callable[[str], str]) -> str:
        """Return it in SQL."""
        return f"({column(self.column)} {self.operator} {literal(self.value)})"


@dataclass(frozen=True, slots=True)
class Membership:
    """`column in (values)`."""

    column: str
    values: tuple[Value, ...]

    def holds(self, values: Mapping[str, Any]) -> bool | None:
        """Look the value up; None without one."""
        value = values.get(self.column)
        return None if value is None else value in self.values

    def sql(self, column: Callable[[str], str]) -> str:
        """Return it in SQL."""
        return f"({column(self.column)} IN ({', '.join(map(literal, self.values))}))"


@dataclass(frozen=True, slots=True)
class Like:
    """`column like pattern`: % is any text, _ any character; letters' case counts."""

    column: str
    pattern: str

    def holds(self, values: Mapping[str, Any]) -> bool | None:
        """Match the whole value; None without one."""
        value = values.get(self.column)
        if value is None:
            return None
        parts = (_WILDCARDS.get(sign) or re.escape(sign) for sign in self.pattern)
        return re.fullmatch("".join(parts), value, re.DOTALL) is not None

    def sql(self, column: Callable[[str], str]) -> str:
        """Return it in SQL, where a backslash takes a wildcard's meaning away."""
        pattern = self.pattern.replace("\\", "\\\\")
        return f"({column(self.column)} LIKE {literal(pattern)})"


@dataclass(frozen=True, slots=True)
class IsNull:
    """`column is null`."""

    column: str

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether the value is missing."""
        return values.get(self.column) is None

    def sql(self, column: Callable[[str], str]) -> str:
        """Return it in SQL."""
        return f"({column(self.column)} IS NULL)"


@dataclass(frozen=True, slots=True)
class Not:
    """`not condition`."""

    condition: Condition

    def holds(self, values: Mapping[str, Any]) -> bool | None:
        """Turn it round; what isn't known stays so."""
        found = self.condition.holds(values)
        return None if found is None else not found

    def sql(self, column: Callable[[str], str]) -> str:
        """Return it in SQL."""
        return f"(NOT {self.condition.sql(column)})"


@dataclass(frozen=True, slots=True)
class Joined:
    """Conditions joined by `and` (`decisive` is False: one that is false decides) or by `or`."""

    decisive: bool
    conditions: tuple[Condition, ...]

    def holds(self, values: Mapping[str, Any]) -> bool | None:
        """Return the decisive value if there is one, else None if one isn't known."""
        found = [each.holds(values) for each in self.conditions]
        if self.decisive in found:
            return self.decisive
        return None if None in found else not self.decisive

    def sql(self, column: Callable[[str], str]) -> str:
        """Return them in SQL."""
        word = " OR " if self.decisive else " AND "
        return f"({word.join(each.sql(column) for each in self.conditions)})"


def literal(value: Value) -> str:
    """Return a value as SQL writes it."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        return f"'{quoted}'"
    return repr(value)
