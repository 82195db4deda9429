"""Read a request's body as a JSON object, or refuse it with the reason."""

import json
import math
from typing import Any

from starlette.requests import Request

from dalm.serving.api_errors import ApiError, invalid


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object that is a request's body.

    Raises:
        ApiError: 415 for another type of content, which pages of other origins may send unasked;
            400 for what is no JSON object of Unicode texts and finite numbers, each name once.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ApiError(415, f"send Content-Type: application/json, not {media[:60]!r}")
    return parse_object(await request.body())


def parse_object(data: bytes | str) -> dict[str, Any]:
    """Return the JSON object of a text. Raises ApiError, 400."""
    try:
        text = data if isinstance(data, str) else data.decode()
        found = json.loads(text, object_pairs_hook=_distinct, parse_constant=_not_a_number,
                           parse_float=_finite)  # fmt: skip
        if "\\u" in text:  # of which half a pair is no text
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise invalid(f"the body isn't UTF-8 at byte {error.start + 1}") from None
    except UnicodeEncodeError:
        raise invalid("a text of the body holds an unpaired surrogate") from None
    except RecursionError:
        raise invalid("the body is nested too deeply") from None
    except ValueError as error:
        raise invalid(f"the body isn't JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise invalid("the body has to be a JSON object")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} stands there twice")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:60]} is too large a number")
    return number


def _not_a_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")
