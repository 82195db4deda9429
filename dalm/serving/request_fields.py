"""Read a request's JSON field by field: with its type, within bounds, and nothing left over."""

import math
import unicodedata
from typing import Any

from starlette.requests import Request

from dalm.serving.api_errors import ApiError, invalid
from dalm.serving.json_body import read_json

MOST_CHARACTERS = 1_000_000
"""Characters of a text."""
_OVERRIDES = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Characters of Unicode that change the direction of what follows them."""


class Fields:
    """A request's JSON object. A field is read once; `finish` refuses those that nobody read."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    @classmethod
    async def of(cls, request: Request) -> "Fields":
        """Read the body of a request.

        Raises:
            ApiError: 415 if it isn't declared as JSON, 400 if it isn't a JSON object.
        """
        return cls(await read_json(request))

    def take(self, name: str) -> Any:
        """Return a field's value as it is; None if it is missing."""
        return self.body.pop(name, None)

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a text."""
        value = self.take(name)
        return default if value is None else text_of(value, name)

    def required_text(self, name: str) -> str:
        """Return a text that has to be there and say something."""
        value = self.text(name)
        if value is None or not value.strip():
            raise invalid(f"{name} is {'missing' if value is None else 'empty'}", name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return true or false."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid(f"{name} is {value!r:.60}, not true or false", name)
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        """Return a number within bounds; None if it is missing."""
        value = self.take(name)
        if value is None:
            return None
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits or not math.isfinite(value) or not least <= value <= most:
            raise invalid(f"{name} is {value!r:.60}, not a number from {least:g} to {most:g}", name)
        return float(value)

    def whole(self, name: str, least: int, most: int) -> int | None:
        """Return a whole number within bounds; None if it is missing."""
        value = self.take(name)
        if value is None:
            return None
        if type(value) is not int or not least <= value <= most:
            raise invalid(
                f"{name} is {value!r:.60}, not a whole number from {least} to {most}", name
            )
        return value

    def choice(self, name: str, *values: str) -> str | None:
        """Return one of the values; None if it is missing."""
        value = self.take(name)
        if value is not None and value not in values:
            raise invalid(f"{name} is {value!r:.60}, not one of {', '.join(values)}", name)
        return None if value is None else str(value)

    def only(self, name: str, *values: object) -> None:
        """Refuse a field that this server can't honour, but for values that change nothing."""
        value = self.take(name)
        if value is not None and not any(
            type(value) is type(each) and value == each for each in values
        ):
            raise invalid(f"{name} isn't supported: leave it out", name, "unsupported_parameter")

    def without_effect(self, *names: str) -> None:
        """Accept fields that change no result."""
        for name in names:
            self.take(name)

    def finish(self) -> None:
        """Refuse fields that nobody has read."""
        for name in self.body:
            raise invalid(f"{name[:60]} is unknown: leave it out", name[:60], "unknown_parameter")


def is_one_line(text: str) -> bool:
    """Tell whether a text stands in one line: no line break, control, or override of direction."""
    return not any(
        unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(each) in _OVERRIDES
        for each in text
    )


def text_of(value: object, name: str) -> str:
    """Return a value that has to be a text.

    Raises:
        ApiError: it is none, too long, or has half a surrogate pair.
    """
    if not isinstance(value, str):
        raise invalid(f"{name} is {value!r:.60}, not a text", name)
    if len(value) > MOST_CHARACTERS:
        raise ApiError(413, f"{name} has more than {MOST_CHARACTERS} characters", param=name)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{name} has an unpaired surrogate", name) from error
    return value
