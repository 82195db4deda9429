"""A server of chat completions: its address and key in, what its responses mean out."""

import math
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2 as httpx

from dalm.errors import UserError
from dalm.llm.language_model import Reply

BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
"""Answers that may be another one a little later."""


_BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class BusyError(Exception):
    """No answer this time: ask again, after `wait` seconds if the server said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class RefusedError(Exception):
    """The server won't answer this request, now or later."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a command spells what its user may have to change, for the remedies in errors."""

    asks: str
    """What makes the command ask a server."""
    address: str
    model: str
    key: str
    timeout: str
    again: str = "the same command"
    """What goes on where an interrupted run stopped."""

    @property
    def kept(self) -> str:
        """Say that nothing is lost when asking has to end."""
        return f"what was answered is kept, {self.again} goes on from there"


@dataclass(frozen=True)
class Server:
    """Where a model is served, and how patiently to ask it."""

    base_url: str
    model: str
    options: Options
    api_key: str | None = field(default=None, repr=False)
    max_retries: int = 8
    timeout: float = 300.0
    first_wait: float = 0.5
    """Seconds before the second try; the later ones wait longer."""

    def check(self, response: httpx.Response) -> None:
        """Raise BusyError, RefusedError, or UserError for what no other request would mend."""
        code = response.status_code
        if code == 200:
            return
        if code in BUSY or code > 500:
            raise BusyError(self.reason(response), retry_after(response.headers.get("Retry-After")))
        remedies = {
            401: f"set the key in the environment ({self.options.key} names the variable)",
            403: "the key has no right to this model",
            404: f"check {self.options.address} (most end in /v1) and {self.options.model}",
        }
        if code in remedies or code < 400:
            remedy = remedies.get(code, f"check {self.options.address}")
            raise UserError(f"{self.base_url}: {self.reason(response)}; {remedy}")
        raise RefusedError(self.reason(response))

    def read(self, response: httpx.Response, seconds: float) -> Reply:
        """Return the answer in a chat completion, or raise BusyError for anything else."""
        try:
            body = response.json()
            content = body["choices"][0]["message"].get("content") or ""
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            used = body.get("usage") or {}
            tokens_in = int(used.get("prompt_tokens") or 0)
            tokens_out = int(used.get("completion_tokens") or 0)
        except _BROKEN as error:
            raise BusyError("a broken answer, no chat completion") from error
        return Reply(self.without_key(str(content)), tokens_in, tokens_out, round(seconds, 3))

    def reason(self, response: httpx.Response) -> str:
        """Return what a server says of its refusal, as one line."""
        said = " ".join(response.text.split())
        try:
            error = response.json()["error"]
            said = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, TypeError):
            pass
        return f"{response.status_code} {self.without_key(said)[:300]}".strip()

    def without_key(self, text: str) -> str:
        """Take the key out of what a server or a library says: some quote it."""
        return text.replace(self.api_key, "***") if self.api_key else text


def server_of(
    base_url: str | None, model: str | None, key_variable: str, options: Options
) -> tuple[str, str | None]:
    """Return the address for chat completions and the key from the environment.

    Raises:
        UserError: no model or address, one that is none, or a key that no header can carry.
    """
    if not base_url:
        raise UserError(
            f"{options.asks} needs {options.address}, the server's address, as in "
            "http://localhost:8000/v1"
        )
    if not model:
        raise UserError(
            f"{options.asks} needs {options.model}, the server's name for it (see GET /v1/models)"
        )
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL("")
    if url.userinfo or re.search(rb"key|token|secret", url.query, re.IGNORECASE):
        raise UserError(
            f"{options.address}: put no password or key into it; it goes to the environment"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(
            f"{options.address} {base_url}: no address; write it as http://localhost:8000/v1"
        )
    path = url.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return str(url.copy_with(path=f"{path}/chat/completions")), _key(key_variable)


def _key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"${variable}: no key has blanks or line breaks in it; copy it again")
    return key or None


# FOLDED waiting.py: How long to wait before asking again: a busy server's answer in, seconds out.

LONGEST = 60.0  # seconds between two tries, where the server names no time


def backed_off(tries: int, first: float, chance: float) -> float:
    """Return the seconds to wait after so many failed tries: doubled each time, then spread.

    first · 2^(tries - 1), at most a minute, times ½ to 1 by `chance` in [0, 1): requests that
    failed together don't come back together.
    """
    return min(LONGEST, first * 2.0 ** min(tries - 1, 30)) * (0.5 + chance / 2)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date (RFC 9110)."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = _until(header, now or datetime.now(UTC))
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(date: str, now: datetime) -> float:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now.timestamp()
