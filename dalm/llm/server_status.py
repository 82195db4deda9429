"""Decide what a server's status code or error text means, and how long to wait."""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import unescape
from typing import Any

from dalm.llm.chat_replies import BROKEN, reported
from dalm.llm.language_model import ModelError
from dalm.llm.server_errors import BusyError, QuotaError, RefusedError, StatusError

BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
"""Status codes after which the same request may succeed a little later."""
NEVER = {401, 403, 404, 405, 410, 501, 505}
"""Status codes that every request to the address meets."""
MAX_BACKOFF = 60.0  # seconds between two tries, where the server names no time
LONGEST_REASON = 300  # characters of what a server says

_NO_CREDIT = re.compile(
    r"insufficient[\s_-]*(?:quota|credit|balance|fund)|exceeded your current quota"
    r"|(?:out of|no|not enough)\s(?:\w+\s)?credits?\b|credit balance|billing|payment required"
    r"|arrears",
    re.IGNORECASE,
)
_LATER = re.compile(
    r"(?:try again|retry)\w*\s(?:in|after)\s(?:(\d+)m)?(\d+(?:\.\d+)?)\s?(m?s)", re.IGNORECASE
)
"""Words of servers for an account without credit, and for a time to wait."""
_CODES = {
    **{"rate_limit": 429, "ratelimit": 429, "overloaded": 503, "unavailable": 503},
    **{"authentication": 401, "api_key": 401, "permission": 403, "not_found": 404},
    "timeout": 504,
}
"""Parts of the names of errors that come with status 200, and the status that says the same."""
_PAGE = re.compile(
    r"\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body)", re.DOTALL | re.IGNORECASE
)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)


def status_error(
    url: str, code: int, reason: str, said: str, wait: float | None = None
) -> ModelError:
    """Return what a status code means; `said` is all that the server said with it."""
    wait = _named_wait(said) if wait is None else wait
    if code == 402 or (code in (400, 403, 429) and not wait and _NO_CREDIT.search(said)):
        return QuotaError(f"{url}: {reason}")
    if code in NEVER or code < 400:
        return StatusError(url, code, reason)
    if code in BUSY or code > 500:
        return BusyError(reason, wait)
    return RefusedError(reason)


def code_of(error: Any) -> int:
    """Return the status code that an error with status 200 stands for; 400 if it names none."""
    if not isinstance(error, dict):
        error = {"message": error}
    named = " ".join(str(error.get(name) or "") for name in ("code", "type", "status", "message"))
    code = next((int(part) for part in named.split() if re.fullmatch("[45][0-9][0-9]", part)), 0)
    if not code and _NO_CREDIT.search(named):
        return 402
    return code or next((each for name, each in _CODES.items() if name in named.lower()), 400)


def message_of(error: Any) -> str:
    """Return an error's message as one line."""
    if isinstance(error, dict):
        message = error.get("message") or error.get("msg") or error.get("error")
        error = error if message is None else message
    return " ".join(str(error).split())


def reason_in(content: str) -> str:
    """Return what the body of a response says: its error's message, or the text of a page."""
    with suppress(*BROKEN):
        if error := reported(json.loads(content)):
            return message_of(error)
    return page_title(content) or " ".join(content.split())


def page_title(content: str) -> str | None:
    """Return the title of a web page, or how its text begins; None for what isn't HTML."""
    if not re.match(
        r"\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body)", content, re.I | re.S
    ):
        return None
    title = _TITLE.search(content)
    text = title[1] if title and title[1].strip() else _TAG.sub(" ", content)
    return " ".join(unescape(text).split())[:100] or "without text"


def backoff(tries: int, first: float, chance: float) -> float:
    """Return the seconds to wait after so many failed tries: exponential backoff with jitter.

    first · 2^(tries - 1), at most a minute, times ½ to 1 by `chance` in [0, 1): requests that
    failed together don't come back together.
    """
    return min(MAX_BACKOFF, first * 2.0 ** min(tries - 1, 30)) * (0.5 + chance / 2)


def wait_in(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the headers of a response ask for."""
    with suppress(ValueError):
        return max(0.0, float(headers.get("retry-after-ms", "")) / 1000)
    return retry_after(headers.get("Retry-After"))


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date (RFC 9110)."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            then = parsedate_to_datetime(header)
        except (ValueError, TypeError, OverflowError):
            return None
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        seconds = then.timestamp() - (now or datetime.now(UTC)).timestamp()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _named_wait(said: str) -> float | None:
    """Return the seconds after which a message says to try again."""
    if not (found := _LATER.search(said)):
        return None
    minutes, number, unit = found.groups()
    return 60.0 * int(minutes or 0) + float(number) / (1000 if unit.lower() == "ms" else 1)
