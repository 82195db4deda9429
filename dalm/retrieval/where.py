"""Parse a condition on passages, such as `source = 'manual.pdf' and page > 10`.

A part of SQL: comparisons (=, !=, <>, <, <=, >, >=), `in (...)`, `like` with % and _, `is null`,
`and`, `or`, `not` and parentheses.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from dalm.errors import UserError
from dalm.retrieval.conditions import (
    Comparison,
    Condition,
    IsNull,
    Joined,
    Like,
    Membership,
    Not,
    Value,
)

Columns = Mapping[str, type]
"""The columns that a condition may name, with the type of their values: str, int, float, bool."""

KINDS = {str: "texts", int: "whole numbers", float: "numbers", bool: "true or false"}
"""What messages call the types."""

FIELDS: Columns = {
    "id": str,
    "text": str,
    "title": str,
    "document": str,
    "source": str,
    "page": int,
}
"""The columns that every passage has."""

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>\"(?:[^\"]|\"\")*\"|`[^`]*`|[^\W\d]\w*)"
    r"|(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<sign><=|>=|<>|!=|==|[=<>(),]))"
)
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        """The token as a keyword or sign; empty for quoted texts and names."""
        return "" if self.kind == "text" or self.text[:1] in '"`' else self.text.lower()


def parse_condition(text: str, columns: Columns) -> Condition:
    """Return the condition that a text of `--where` states.

    Raises:
        UserError: not a condition, an unknown column, or a value of another type than the column's;
            names the place and the columns.
    """
    return _Parser(text, columns).parse()


class _Parser:
    """Parse by recursive descent: or, and, not, comparison."""

    def __init__(self, text: str, columns: Columns) -> None:
        self.text, self.columns = text, columns
        self.tokens = [*self._tokens(), _Token("end", "")]
        self.place = 0
        self.depth = 0

    def _tokens(self) -> Iterator[_Token]:
        place = 0
        while self.text[place:].strip():
            found = _TOKEN.match(self.text, place)
            if found is None:
                self._refuse(f"{self.text[place:].strip()[:20]!r} can't be read")
            assert found.lastgroup
            yield _Token(found.lastgroup, found[found.lastgroup])
            place = found.end()

    def _refuse(self, problem: str) -> NoReturn:
        raise UserError(
            f"--where {self.text!r:.200}: {problem}; write a condition such as "
            "\"source = 'manual.pdf' and page > 10\""
        )

    def parse(self) -> Condition:
        found = self._any_of()
        if self.tokens[self.place].kind != "end":
            self._refuse(f"{self.tokens[self.place].text!r} is unexpected")
        return found

    def _accept(self, *words: str) -> str | None:
        word = self.tokens[self.place].word
        if word not in words:
            return None
        self.place += 1
        return word

    def _expect(self, word: str) -> None:
        if self._accept(word) is None:
            self._refuse(
                f"{word!r} is expected before {self.tokens[self.place].text or 'the end'!r}"
            )

    def _any_of(self) -> Condition:
        conditions = [self._all_of()]
        while self._accept("or"):
            conditions.append(self._all_of())
        return conditions[0] if len(conditions) == 1 else Joined(True, tuple(conditions))

    def _all_of(self) -> Condition:
        conditions = [self._negated()]
        while self._accept("and"):
            conditions.append(self._negated())
        return conditions[0] if len(conditions) == 1 else Joined(False, tuple(conditions))

    def _negated(self) -> Condition:
        self.depth += 1
        if self.depth > _DEEPEST:
            self._refuse("nested too deeply")
        try:
            if self._accept("not"):
                return Not(self._negated())
            if self._accept("("):
                found = self._any_of()
                self._expect(")")
                return found
            return self._comparison()
        finally:
            self.depth -= 1

    def _comparison(self) -> Condition:
        column = self._column()
        if sign := self._accept("=", "==", "!=", "<>", "<", "<=", ">", ">="):
            name = {"==": "=", "<>": "!="}.get(sign, sign)
            return Comparison(column, name, self._value(column))
        if self._accept("is"):
            negated = self._accept("not")
            self._expect("null")
            return Not(IsNull(column)) if negated else IsNull(column)
        negated = self._accept("not")
        if self._accept("in"):
            found: Condition = Membership(column, tuple(self._values(column)))
        elif self._accept("like"):
            pattern = self._value(column)
            if not isinstance(pattern, str):
                self._refuse(f"{column} has no texts, which `like` compares")
            found = Like(column, pattern)
        else:
            self._refuse(f"a comparison is expected after {column}")
        return Not(found) if negated else found

    def _column(self) -> str:
        token = self.tokens[self.place]
        name = token.text
        if name[:1] in ('"', "`"):
            name = name[1:-1].replace('""', '"')
        if token.kind != "name" or name not in self.columns:
            known = ", ".join(self.columns)
            self._refuse(f"{name or 'nothing'} is no column; there are {known}")
        self.place += 1
        return name

    def _values(self, column: str) -> Iterator[Value]:
        self._expect("(")
        yield self._value(column)
        while self._accept(","):
            yield self._value(column)
        self._expect(")")

    def _value(self, column: str) -> Value:
        token, kind = self.tokens[self.place], self.columns[column]
        found: Value | None = None
        if token.kind == "text" and kind is str:
            found = token.text[1:-1].replace("''", "'")
        elif token.kind == "number" and kind in (int, float):
            found = self._number(token.text, kind)
        elif token.word in ("true", "false") and kind is bool:
            found = token.word == "true"
        if found is None:
            written = {
                int: "a whole number",
                str: "a text in single quotes",
                bool: "true or false",
            }.get(kind, "a number")
            self._refuse(f"{column} is compared with {written}, not {token.text or 'nothing'}")
        self.place += 1
        return found

    def _number(self, text: str, kind: type) -> float | int | None:
        """Return a number of a column's type: a database may compare no other."""
        number = float(text)
        if abs(number) >= (2**63 if kind is int else float("inf")):
            self._refuse(f"{text[:40]} is too large a number")
        if kind is float:
            return number
        return (
            int(text)
            if text.lstrip("+-").isdecimal()
            else int(number)
            if number.is_integer()
            else None
        )
