"""Refuse requests before they are read: without the key, of other sites, or too large."""

import hmac
import ipaddress
import os
from collections.abc import Collection, Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dalm.config import Serve
from dalm.errors import UserError
from dalm.serving.api_errors import ApiError
from dalm.serving.request_body import RequestBody, too_large
from dalm.serving.service import Service

KEY = "DALM_API_KEY"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Return whether an address or name is of this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def access_key(settings: Serve) -> str | None:
    """Return the key that clients have to send, of the environment variable DALM_API_KEY.

    Raises:
        UserError: another address than this machine's without a key, or a key that is none.
    """
    key = os.environ.get(KEY, "").strip()
    if key and not settings.auth:
        raise UserError(f"${KEY} is set, and --no-auth would ignore it; leave one of them out")
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"${KEY}: a key has no blanks and ASCII characters only; choose another")
    if not key and settings.auth and not is_loopback(settings.host):
        raise UserError(
            f"--host {settings.host}: others can reach this address; set a key in the environment "
            f"variable {KEY}, or add --no-auth to let everybody in"
        )
    return key or None


class Guards:
    """Check each request's host, origin, key and size; set the headers of each response."""

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        *,
        public: Collection[str],
        body_limit: int,
        body_limits: Mapping[str, int],
    ) -> None:
        settings = service.settings
        self.app, self.service, self.public = app, service, public
        self.body_limit, self.body_limits = body_limit, body_limits
        self.key = service.key
        self.local = is_loopback(settings.host)
        self.origins: Sequence[str] = [o.rstrip("/") for o in settings.cors_origin or ()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: closed
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        body = RequestBody(receive, self._limit(scope["path"]))
        closing = False

        async def sending(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start":
                response = MutableHeaders(scope=message)
                self._set_headers(response, origin)
                closing = response.get("connection") == "close"
            elif closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.discard_rest()
                message = {"type": "http.response.body"}
            await send(message)

        try:
            self._check(scope, headers, origin)
        except ApiError as error:
            await error.response(scope, body.receive, sending)
            return
        if origin in self.origins and scope["method"] == "OPTIONS":
            await sending({"type": "http.response.start", "status": 204, "headers": []})
            await sending({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, body.receive, sending)

    def _check(self, scope: Scope, headers: Headers, origin: str | None) -> None:
        path, allowed = scope["path"], origin in self.origins
        if self.local and not is_loopback(_name_of(headers.get("host", ""))):
            # A web page whose name was made to lead here (DNS rebinding) names itself as the host.
            raise ApiError(403, "this server answers to localhost and 127.0.0.1 alone", code="host")
        if origin is not None and not allowed and not _same_site(origin, headers.get("host", "")):
            raise ApiError(
                403,
                "pages of other sites may not use this server (--cors-origin)",
                code="origin",
            )
        preflight = allowed and scope["method"] == "OPTIONS"
        if self.key and path not in self.public and not preflight:
            self._check_key(headers.get("authorization", ""))
        if self.service.stopping and path not in self.public:
            raise ApiError(
                503,
                "the server is being stopped",
                code="stopping",
                headers={"Retry-After": "5", "Connection": "close"},
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limit(path):
            raise too_large(self._limit(path))

    def _check_key(self, authorization: str) -> None:
        kind, _, given = authorization.partition(" ")
        right = hmac.compare_digest(given.strip().encode(), (self.key or "").encode())
        if kind.lower() != "bearer" or not right:
            raise ApiError(
                401,
                "the API key is missing or wrong: send Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _limit(self, path: str) -> int:
        limits = [most for start, most in self.body_limits.items() if path.startswith(start)]
        return max(limits, default=self.body_limit)

    def _set_headers(self, headers: MutableHeaders, origin: str | None) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if not self.origins:
            return
        headers.add_vary_header("Origin")
        if origin in self.origins:
            assert origin is not None
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
            headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"


def _name_of(host: str) -> str:
    """Return a Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _same_site(origin: str, host: str) -> bool:
    """Return whether an Origin header is of the server's own pages."""
    return origin.partition("://")[2] == host and bool(host)
