"""Speak the chat completions protocol: addresses, what a response means, when to try again.

Errors name the command's option to change.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2 as httpx

from dalm.errors import UserError, reason_of
from dalm.llm.language_model import ModelError, Reply
from dalm.llm.sampling import Outcome
from dalm.redaction import MASK, redacted

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
"""Status codes after which the same request may succeed a little later."""
MAX_BACKOFF = 60.0  # seconds between two tries, where the server names no time

_CREDENTIALS = re.compile(r"@|#|[?&](?![\w-]*version=[\w.-]+(?:&|$))")
"""Where an address may hold a password or a key: users, fragments and queries that are not Azure's
`api-version`."""
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


class BusyError(ModelError):
    """No reply this time: try again, after `wait` seconds if the server named a time."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class TimedOutError(BusyError):
    """No reply within the time limit."""


class RefusedError(ModelError):
    """The server rejects this request, now and later; others may succeed."""


class ServerError(ModelError):
    """No request to this server will succeed."""


class StatusError(ServerError):
    """The server rejects every request with the same status code, such as 401 or 404."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.status = status


class UnavailableError(ServerError):
    """So many requests in a row failed that it is the server and not the request."""

    def __init__(self, url: str, failures: int, last: ModelError) -> None:
        self.url, self.failures, self.last = url, failures, last
        super().__init__(self.described(str(last)))

    def described(self, last: str) -> str:
        """Return the message with another text for the last failure."""
        return f"{self.url} failed {self.failures} times in a row, most recently: {last}"


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a command spells the options that name its server."""

    needed_by: str
    """The option that makes the command need a server."""
    url: str
    model: str
    api_key_env: str
    timeout: str | None = None

    def endpoint(
        self,
        base_url: str | None,
        model: str | None,
        key_variable: str,
        *,
        max_retries: int = 8,
        timeout: float = 300.0,
        resume: str = "the same command",
    ) -> "Endpoint":
        """Return the endpoint that the options' values name, with the key from the environment.

        Raises:
            UserError: no model or address, one that is none, or a key that no header can carry.
        """
        if not base_url:
            raise UserError(
                f"{self.needed_by} needs {self.url}, the server's address, as in "
                "http://localhost:8000/v1"
            )
        if not model:
            raise UserError(
                f"{self.needed_by} needs {self.model}, the server's name for its model (see "
                "GET /v1/models)"
            )
        if not model.isprintable():
            raise UserError(f"{self.model} {model}: not a name; see GET /v1/models")
        url = self._chat_completions(base_url)
        key = os.environ.get(key_variable, "").strip() or None
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise UserError(
                f"${key_variable}: a key has no blanks or line breaks in it; copy it again"
            )
        return Endpoint(url, model, key, max_retries, timeout, options=self, resume=resume)

    def _chat_completions(self, base_url: str) -> str:
        if redacted(base_url) != base_url or _CREDENTIALS.search(base_url):
            raise UserError(
                f"{self.url}: put no password or key into the address; {self.api_key_env} names "
                "the environment variable that holds it"
            )
        url = _address(base_url)
        if url is None:
            raise UserError(
                f"{self.url} {base_url}: not an address; write it as http://localhost:8000/v1"
            )
        if url.port is not None and not 0 < url.port < 65536:
            raise UserError(
                f"{self.url} {base_url}: no port {url.port}; ports are numbers from 1 to 65535"
            )
        path = url.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
        return str(url.copy_with(path=f"{path}/chat/completions"))


def _address(text: str) -> httpx.URL | None:
    """Return an address of HTTP with a host; None for a text that is none."""
    try:
        url = httpx.URL(text)
        url.host.encode("idna")  # as a connection does, with no error of its own
    except (httpx.InvalidURL, ValueError):
        return None
    whole = url.scheme in ("http", "https") and url.host and "%" not in url.host
    return url if whole else None


@dataclass(frozen=True)
class Endpoint:
    """A model on a server, and how patiently to wait for it."""

    url: str
    """The full address of chat completions."""
    model: str
    api_key: str | None = field(default=None, repr=False)
    max_retries: int = 8
    timeout: float = 300.0
    first_wait: float = 0.5
    """Seconds before the second try; it doubles with each further one."""
    options: ServerOptions | None = None
    """The options that name it: with them errors are UserErrors, which say what to change."""
    resume: str = "the same command"
    """What continues a run where it was interrupted."""

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that carry the key."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def client(self, kind: type[C], **options: Any) -> C:
        """Return a client of httpx that sends the key and keeps the time limits.

        Raises:
            ServerError: the environment names a proxy or certificates that can't be used.
        """
        timeout = httpx.Timeout(self.timeout, connect=min(30.0, self.timeout))
        try:
            return kind(headers=self.headers, timeout=timeout, **options)
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            raise ServerError(
                f"no connection can be made ({self.without_key(reason_of(error))}); check the "
                "proxy and the certificates that the environment names (HTTP_PROXY, HTTPS_PROXY, "
                "ALL_PROXY, SSL_CERT_FILE)"
            ) from error

    def check(self, response: httpx.Response) -> None:
        """Raise BusyError, RefusedError or StatusError unless the status is 200."""
        code = response.status_code
        if code == 200:
            return
        reason = self.reason(response)
        if code in BUSY or code > 500:
            raise BusyError(reason, retry_after(response.headers.get("Retry-After")))
        if code in (401, 403, 404) or code < 400:
            raise StatusError(self.url, code, reason)
        raise RefusedError(reason)

    def read(self, response: httpx.Response, seconds: float) -> Reply:
        """Return the reply in a chat completion, or raise BusyError for anything else."""
        try:
            body = response.json()
            content = body["choices"][0]["message"].get("content") or ""
            if isinstance(content, list):
                content = "".join(part.get("text", "") for part in content)
            used = body.get("usage") or {}
            tokens_in = int(used.get("prompt_tokens") or 0)
            tokens_out = int(used.get("completion_tokens") or 0)
        except _BROKEN as error:
            raise BusyError("the response is no chat completion") from error
        return Reply(self._reply(str(content)), tokens_in, tokens_out, round(seconds, 3))

    def read_stream(self, lines: Iterable[str], outcome: Outcome | None = None) -> Iterator[str]:
        """Yield the text of each server-sent event; fill `outcome` with how the reply ended.

        Raises:
            RefusedError: an event that reports an error, or is no chunk of a chat completion.
            BusyError: the stream broke off.
        """
        try:
            for line in lines:
                name, _, data = line.partition(":")
                if name != "data":
                    continue
                if data.strip() == "[DONE]":
                    return
                event = json.loads(data)
                if error := event.get("error"):
                    message = self.without_key(" ".join(str(_message(error)).split()))
                    raise RefusedError(f"{self.url} reports: {message[:300]}")
                choices = event["choices"]  # empty in a last chunk that counts tokens
                if outcome is not None:
                    _read_outcome(event, outcome)
                piece = choices[0]["delta"].get("content") if choices else None
                if piece:
                    yield self._reply(str(piece))
        except _BROKEN as error:
            raise RefusedError(f"{self.url} sends no stream of chat completions") from error
        raise BusyError("the stream broke off")

    def _reply(self, text: str) -> str:
        """Return a reply without the key; what else looks like one may be of the passages."""
        return text.replace(self.api_key, MASK) if self.api_key else text

    def explain(self, error: ModelError) -> str:
        """Return an error's message with the options that would change what it reports."""
        options = self.options
        if options is None:
            return str(error)
        message, remedy = str(error), ""
        kept = f"; replies so far are kept, {self.resume} continues from there"
        match error:
            case UnavailableError():
                message = error.described(self.explain(error.last))
                remedy = f"; check the server and {options.model}{kept}"
            case StatusError(status=401):
                remedy = (
                    f"; set the key in the environment ({options.api_key_env} names the variable)"
                )
            case StatusError(status=403):
                remedy = "; the key has no right to this model"
            case StatusError(status=404):
                remedy = f"; check {options.url} (most end in /v1) and {options.model}"
            case StatusError():
                remedy = f"; check {options.url}"
            case ServerError():
                remedy = kept
            case TimedOutError() if options.timeout:
                remedy = f" ({options.timeout})"
        return message + remedy

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the server reports into a UserError, if options name this endpoint."""
        try:
            yield
        except ModelError as error:
            if self.options is None:
                raise
            raise UserError(self.explain(error)) from error

    def failure(self, error: httpx.RequestError) -> BusyError:
        """Return what a failed connection means."""
        if isinstance(error, httpx.TimeoutException):
            return TimedOutError(f"no answer in {self.timeout:g} s")
        reason = self.without_key(str(error)) or type(error).__name__
        return BusyError(f"the connection failed ({reason})")

    def reason(self, response: httpx.Response) -> str:
        """Return a server's error message as one line, after its status code."""
        message = " ".join(response.text.split())
        with suppress(*_BROKEN):
            message = str(_message(response.json()["error"]))
        return f"{response.status_code} {self.without_key(message)[:300]}".strip()

    def without_key(self, text: str) -> str:
        """Mask the key, and what looks like one, in what a server or a library says."""
        return redacted(text, self.api_key)


def _read_outcome(event: Any, outcome: Outcome) -> None:
    """Take from a chunk how the reply ended, and its tokens, if it says so."""
    for choice in event["choices"]:
        outcome.finish_reason = choice.get("finish_reason") or outcome.finish_reason
    if used := event.get("usage"):
        outcome.tokens_in = used.get("prompt_tokens")
        outcome.tokens_out = used.get("completion_tokens")


def _message(error: Any) -> Any:
    return error["message"] if isinstance(error, dict) else error


def backoff(tries: int, first: float, chance: float) -> float:
    """Return the seconds to wait after so many failed tries: exponential backoff with jitter.

    first · 2^(tries - 1), at most a minute, times ½ to 1 by `chance` in [0, 1): requests that
    failed together don't come back together.
    """
    return min(MAX_BACKOFF, first * 2.0 ** min(tries - 1, 30)) * (0.5 + chance / 2)


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
