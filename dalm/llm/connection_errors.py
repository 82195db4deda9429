"""Say why there is no connection to a server, and what to change."""

import errno
import socket
import ssl
from collections.abc import Iterator

import httpx2 as httpx

from dalm.llm.server_errors import BusyError, TimedOutError, UnreachableError

_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""OpenSSL's names for an answer that isn't TLS."""


def failed_connection(error: httpx.RequestError, timeout: float) -> BusyError:
    """Return what a failed connection means."""
    if isinstance(error, httpx.ConnectTimeout):
        return UnreachableError("no connection can be made: the host doesn't answer", most=0)
    if isinstance(error, httpx.TimeoutException):
        return TimedOutError(f"no answer in {timeout:g} s", most=3)
    if isinstance(error, httpx.ProxyError):
        return UnreachableError(
            f"the proxy refuses ({error})",
            "check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; NO_PROXY names hosts without one",
        )
    known = (found for cause in _causes(error) if (found := _named(cause)))
    unnamed = BusyError(f"the connection failed ({str(error) or type(error).__name__})")
    return next(known, unnamed)


def _named(cause: BaseException) -> UnreachableError | None:
    """Return what a cause means that the operating system or TLS names."""
    match cause:
        case ssl.SSLError():
            return _no_tls(cause)
        case socket.gaierror():
            most = 2 if cause.errno == socket.EAI_AGAIN else 0
            return UnreachableError(f"no such host ({cause.strerror})", most=most)
        case ConnectionRefusedError():
            return UnreachableError(
                "the connection is refused: nothing listens there",
                "start the server, or check {url}",
            )
        case OSError() if cause.errno in _UNREACHABLE:
            return UnreachableError(f"the host can't be reached ({cause.strerror})", most=0)
    return None


def _no_tls(error: ssl.SSLError) -> UnreachableError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnreachableError(
            f"its certificate isn't trusted ({error.verify_message})",
            "let SSL_CERT_FILE name a file with the certificate that signed it, or write http:// "
            "in {url} where the server speaks no TLS",
            most=0,
        )
    said = error.reason or str(error)
    if any(name in said for name in _NO_TLS):
        return UnreachableError("the server speaks no TLS", "write http:// in {url}", most=0)
    return UnreachableError(f"TLS failed ({said})", most=0)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, groups included."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, BaseExceptionGroup):
            waiting.extend(found.exceptions)
        if following := found.__cause__ or found.__context__:
            waiting.append(following)
