"""Speak the chat completions protocol: what is sent with a request, and what a response means.

Errors name the command's option to change.
"""

import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2 as httpx

from dalm.errors import UserError, reason_of
from dalm.llm import server_status
from dalm.llm.chat_replies import (
    BROKEN,
    FILTERED,
    Completion,
    ReportedError,
    completion_of,
)
from dalm.llm.connection_errors import failed_connection
from dalm.llm.language_model import ModelError, Reply
from dalm.llm.sampling import Outcome
from dalm.llm.server_errors import (
    BusyError,
    NoAnswerError,
    NoServerError,
    QuotaError,
    RefusedError,
    ServerError,
    StatusError,
    TimedOutError,
    TruncatedError,
    UnavailableError,
    UnreachableError,
)
from dalm.redaction import MASK, redacted

if TYPE_CHECKING:
    from dalm.llm.server_options import ServerOptions

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

CONNECT_TIMEOUT = 10.0  # seconds in which a host answers that is there


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
    options: "ServerOptions | None" = None
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
        timeout = httpx.Timeout(self.timeout, connect=min(CONNECT_TIMEOUT, self.timeout))
        try:
            verify = _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            return kind(headers=self.headers, timeout=timeout, verify=verify, **options)
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            raise ServerError(
                f"no connection can be made ({self.without_key(reason_of(error))}); check the "
                "proxy and the certificates that the environment names (HTTP_PROXY, HTTPS_PROXY, "
                "ALL_PROXY, SSL_CERT_FILE)"
            ) from error

    def check(self, response: httpx.Response) -> None:
        """Raise what a status other than 200 means."""
        code = response.status_code
        if code != 200:
            said = server_status.reason_in(response.text)
            if 300 <= code < 400 and (moved := response.headers.get("Location")):
                said = f"moved to {moved} {said}"
            reason = f"{code} {self._said(said)}".strip()
            wait = server_status.wait_in(response.headers)
            raise server_status.status_error(self.url, code, reason, response.text, wait)

    def read(
        self, response: httpx.Response, seconds: float, *, limit: int | None, structured: bool
    ) -> Reply:
        """Return the reply in a chat completion.

        Raises:
            ModelError: there is none; see `Completion.answer`.
        """
        content = _decoded(response)
        try:
            found = completion_of(content)
        except ReportedError as error:
            raise self._reported(error.error) from error
        except BROKEN as error:
            if page := server_status.page_title(content):
                said = f"a web page ({self._said(page)}), no chat completion"
                raise UnreachableError(said, most=0) from error
            raise BusyError("the response is no chat completion") from error
        text = self._reply(found.answer(limit, structured=structured))
        finish = "length" if found.is_cut else "stop"
        return Reply(text, found.tokens_in, found.tokens_out, round(seconds, 3), finish)

    def read_stream(
        self, lines: Iterable[str], outcome: Outcome | None = None, limit: int | None = None
    ) -> Iterator[str]:
        """Yield the text of each server-sent event; fill `outcome` with how the reply ended.

        Raises:
            RefusedError: an event that is no chunk of a chat completion.
            BusyError: the stream broke off.
            ModelError: an event reports an error, or there is no text at all.
        """
        found = Completion()
        try:
            for piece in found.read_events(lines):
                if outcome is not None:
                    _fill(outcome, found)
                if piece:
                    yield self._reply(piece)
        except ReportedError as error:
            raise self._reported(error.error) from error
        except BROKEN as error:
            raise RefusedError(f"{self.url} sends no stream of chat completions") from error
        if not found.text:
            found.answer(limit, structured=False)

    def _reported(self, error: Any) -> ModelError:
        """Return what an error means that came with status 200."""
        code, said = server_status.code_of(error), str(error)
        reason = self._said(server_status.message_of(error))
        if code in (402, *server_status.NEVER):  # their errors name the address
            return server_status.status_error(self.url, code, reason, said)
        return server_status.status_error(self.url, code, f"{self.url} reports: {reason}", said)

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
                answered = isinstance(error.last, TruncatedError | NoAnswerError)
                remedy = kept if answered else f"; check the server and {options.model}{kept}"
            case NoServerError() | UnreachableError():
                remedy = f"; {error.remedy.format(url=options.url)}"
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
            case QuotaError():
                remedy = f"; the account has no credit left: add some{kept}"
            case ServerError():
                remedy = kept
            case TimedOutError() if options.timeout:
                remedy = f" ({options.timeout})"
            case TruncatedError(limit=None):
                remedy = (
                    "; raise the server's limit on the context or on new tokens (Ollama: num_ctx, "
                    f"llama.cpp: -c, vLLM: --max-model-len), or {options.max_tokens}"
                )
            case TruncatedError():
                remedy = f"; raise {options.max_tokens}"
                remedy += ", or turn the reasoning off on the server" if error.thinking else ""
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
        failed = failed_connection(error, self.timeout)
        failed.args = (self.without_key(str(failed)),)
        return failed

    def _said(self, reason: str) -> str:
        return self.without_key(reason)[: server_status.LONGEST_REASON]

    def without_key(self, text: str) -> str:
        """Mask the key, and what looks like one, in what a server or a library says."""
        return redacted(text, self.api_key)


@lru_cache(4)
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:  # noqa: ARG001
    """Return the trusted certificates, read once: that takes longer than a request to a server."""
    return httpx.create_ssl_context()


def _fill(outcome: Outcome, found: Completion) -> None:
    """Take from a stream so far how the reply ended, and its tokens, if it says so."""
    if found.is_cut:
        outcome.finish_reason = "length"
    elif found.finish_reason in FILTERED:
        outcome.finish_reason = "content_filter"
    outcome.tokens_in = found.tokens_in or outcome.tokens_in
    outcome.tokens_out = found.tokens_out or outcome.tokens_out


def _decoded(response: httpx.Response) -> str:
    """Return a body as text: UTF-8, else what the header says, else Windows-1252."""
    try:
        return response.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        charset = response.charset_encoding or "cp1252"
    try:
        return response.content.decode(charset, "replace")
    except LookupError:
        return response.content.decode("cp1252", "replace")
