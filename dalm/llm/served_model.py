"""Take a served model from a command's options, and name the option to change in every error."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx

from dalm.errors import UserError
from dalm.llm.chat_completions import (
    Endpoint,
    ServerError,
    StatusError,
    TimedOutError,
    UnavailableError,
)
from dalm.llm.language_model import ModelError, OnFailure, OnReply, R
from dalm.llm.openai_client import OpenAIClient
from dalm.prompts import Message


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a command spells the options that name its server."""

    needed_by: str
    """The option that makes the command need a server."""
    url: str
    model: str
    api_key_env: str
    timeout: str | None = None
    resume: str = "the same command"
    """What continues a run where it was interrupted."""

    @property
    def kept(self) -> str:
        """Say that nothing is lost when a run has to end."""
        return f"replies so far are kept, {self.resume} continues from there"

    def endpoint(
        self,
        base_url: str | None,
        model: str | None,
        key_variable: str,
        *,
        max_retries: int,
        timeout: float,
    ) -> Endpoint:
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
        url = self._chat_completions(base_url)
        key = _key(key_variable)
        return Endpoint(url, model, key, max_retries=max_retries, timeout=timeout)

    def _chat_completions(self, base_url: str) -> str:
        try:
            url = httpx.URL(base_url)
        except (httpx.InvalidURL, ValueError):
            url = httpx.URL("")
        if url.userinfo or re.search(rb"key|token|secret", url.query, re.IGNORECASE):
            raise UserError(
                f"{self.url}: put no password or key into the address; {self.api_key_env} names "
                "the environment variable that holds it"
            )
        if url.scheme not in ("http", "https") or not url.host:
            raise UserError(
                f"{self.url} {base_url}: not an address; write it as http://localhost:8000/v1"
            )
        path = url.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
        return str(url.copy_with(path=f"{path}/chat/completions"))

    def explain(self, error: ModelError) -> str:
        """Return an error's message with the options that would change what it reports."""
        match error:
            case UnavailableError():
                last = error.described(self.explain(error.last))
                return f"{last}; check the server and {self.model}; {self.kept}"
            case StatusError():
                return f"{error}; {self._remedy(error.status)}"
            case ServerError():
                return f"{error}; {self.kept}"
            case TimedOutError() if self.timeout:
                return f"{error} ({self.timeout})"
        return str(error)

    def _remedy(self, status: int) -> str:
        match status:
            case 401:
                return f"set the key in the environment ({self.api_key_env} names the variable)"
            case 403:
                return "the key has no right to this model"
            case 404:
                return f"check {self.url} (most end in /v1) and {self.model}"
        return f"check {self.url}"

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what a model reports into the one line that a user reads."""
        try:
            yield
        except ModelError as error:
            raise UserError(self.explain(error)) from error


class ServedModel(OpenAIClient):
    """A model on a server that a command's options name; its errors are UserErrors."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: ServerOptions,
        parameters: Mapping[str, Any],
        concurrency: int = 1,
    ) -> None:
        super().__init__(endpoint, parameters, concurrency)
        self.options = options

    def generate(
        self, requests: Sequence[R], on_reply: OnReply[R], on_failure: OnFailure[R]
    ) -> None:
        """Send every request; see `OpenAIClient.generate`."""

        def explained(request: R, error: ModelError) -> None:
            on_failure(request, ModelError(self.options.explain(error)))

        with self.options.explained():
            super().generate(requests, on_reply, explained)

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the pieces of a reply; see `OpenAIClient.stream`."""
        with self.options.explained():
            yield from super().stream(messages)


def _key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"${variable}: a key has no blanks or line breaks in it; copy it again")
    return key or None
