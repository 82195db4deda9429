"""Make an endpoint of the options that name a server, and refuse what can't be one."""

import os
import re
from dataclasses import dataclass

import httpx2 as httpx

from dalm.errors import UserError
from dalm.llm.chat_completions import Endpoint
from dalm.redaction import redacted

_CREDENTIALS = re.compile(r"@|#|[?&](?![\w-]*version=[\w.-]+(?:&|$))")
"""Where an address may hold a password or a key: users, fragments and queries that are not Azure's
`api-version`."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a command spells the options that name its server."""

    needed_by: str
    """The option that makes the command need a server."""
    url: str
    model: str
    api_key_env: str
    timeout: str | None = None
    max_tokens: str = "--max-new-tokens"

    def endpoint(
        self,
        base_url: str | None,
        model: str | None,
        key_variable: str,
        *,
        max_retries: int = 8,
        timeout: float = 300.0,
        resume: str = "the same command",
    ) -> Endpoint:
        """Return the endpoint that the options' values name, with the key from the environment.

        Raises:
            UserError: no model or address, one that is none, or a key that no header can carry.
        """
        missing = []
        if not base_url:
            missing.append(f"{self.url}, the server's address, as in http://localhost:8000/v1")
        if not model:
            missing.append(f"{self.model}, the server's name for its model (see GET /v1/models)")
        if not base_url or not model:
            raise UserError(f"{self.needed_by} needs {', and '.join(missing)}")
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
