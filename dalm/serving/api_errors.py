"""Report errors to clients in the shape of OpenAI's API."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from dalm.redaction import redacted

logger = logging.getLogger(__name__)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    504: "timeout_error",
}


class ApiError(Exception):
    """An error that a client is told: a status, a message and the parameter that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.param, self.code = param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's API writes it."""
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": redacted(self.message),
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def response(self) -> JSONResponse:
        """The error as an HTTP response."""
        return JSONResponse(self.body, self.status, self.headers)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error for a request that can't be answered as it is: status 400."""
    return ApiError(400, message, param=param, code=code)


def of_exception(error: BaseException) -> ApiError:
    """Return what a client is told of an exception; one that it didn't cause goes to the log.

    A message of ours may name files of this machine: a client isn't told it.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, error.detail, headers=error.headers)
    if isinstance(error, ClientDisconnect):
        return invalid("the connection ended before the request did")
    logger.error("the server failed: %s: %s", type(error).__name__, error, exc_info=error)
    return ApiError(500, "the server failed; its log says why")


async def respond(_: Request, error: Exception) -> Response:
    """Answer a request with an error: the exception handler of the application."""
    return of_exception(error).response


def not_found(path: str) -> ApiError:
    """Return the error for an address that doesn't exist."""
    return ApiError(404, f"there is no {path[:200]} here", code="not_found")
