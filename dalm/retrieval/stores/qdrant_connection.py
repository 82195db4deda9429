"""Open a Qdrant: a server, or a folder that its client reads and writes itself (local mode)."""

import contextlib
import logging
import os
import threading
import warnings
import weakref
from contextlib import AbstractContextManager
from pathlib import Path
from traceback import walk_tb
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse

from dalm.artifacts import full_disk
from dalm.errors import UserError
from dalm.file_reading import DamagedError, user_path
from dalm.redaction import redacted
from dalm.retrieval.base import REBUILD
from dalm.retrieval.bm25 import BM25

logger = logging.getLogger(__name__)

KEY = "QDRANT_API_KEY"
_LEAST_VERSION = (1, 16)
"""Of the server: the first whose collections keep facts about themselves."""
_TIMEOUT = 60
_HERE = ("localhost", "127.0.0.1", "::1")


class Connection:
    """A client of a server or a folder. A folder's is one for the process, used by one thread."""

    def __init__(self, url: str, *, is_server: bool) -> None:
        self.url, self.is_server = url, is_server
        self.lock: AbstractContextManager[Any] = (
            contextlib.nullcontext() if is_server else threading.RLock()
        )
        self.words: dict[str, BM25] = {}
        """The words of a folder's collections, until they are written to: by this process alone."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said here and by `optimise`
            self.client = _server(url) if is_server else _folder(url)
        weakref.finalize(self, self.client.close)

    def quicken(self, collection: str) -> None:
        """Let a folder's collection be written without a wait for the disk after each point.

        Its client has no setting for that, and needs some 20 ms a point on slow disks. What a
        killed process wrote stays; `settle` waits for the disk.
        """
        self._pragma(collection, "journal_mode = WAL")
        self._pragma(collection, "synchronous = NORMAL")

    def settle(self, collection: str) -> None:
        """Wait until all that was written to a folder's collection is on the disk."""
        self._pragma(collection, "wal_checkpoint(TRUNCATE)")

    def _pragma(self, collection: str, setting: str) -> None:
        with contextlib.suppress(AttributeError, KeyError):  # another version of the client: slow
            inner: Any = self.client._client  # there is no other way to it
            inner.collections[collection].storage.storage.execute(f"PRAGMA {setting}").fetchall()


_folders: "weakref.WeakValueDictionary[str, Connection]" = weakref.WeakValueDictionary()
_opening = threading.Lock()


def connection_to(url: str, *, create: bool) -> Connection:
    """Connect to a server, or open a folder; a new folder is made only with `create`.

    Raises:
        UserError: an address of no use, no server, no rights, a server that is too old, a folder
            that another process uses or that holds something else. DamagedError: no such folder.
    """
    if "://" in url:
        _check_address(url)
        connection = Connection(url, is_server=True)
        _check_server(connection)
        return connection
    path = user_path(url).resolve()
    with _opening:
        if (found := _folders.get(str(path))) is not None:
            return found
        _check_folder(path, create=create)
        _folders[str(path)] = opened = Connection(str(path), is_server=False)
        return opened


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            f"--store-url {parts.scheme}://...: Qdrant takes no name, password or parameters in an "
            f"address; put its key into the environment variable {KEY}"
        )
    if not parts.hostname:
        raise UserError(f"--store-url {url}: names no host; write http://localhost:6333")
    if os.environ.get(KEY) and parts.scheme == "http" and parts.hostname not in _HERE:
        logger.warning("%s goes to %s without encryption; use https", KEY, parts.hostname)


def _check_server(connection: Connection) -> None:
    version = connection.client.info().version
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _LEAST_VERSION:
        needed = ".".join(map(str, _LEAST_VERSION))
        raise UserError(
            f"Qdrant at {connection.url} has version {version}, and {needed} is needed; update it"
        )


def _check_folder(path: Path, *, create: bool) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"--store-url {path} is a file; name a folder, or http://host:6333")
    if (path / "meta.json").exists():
        return
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"--store-url {path} exists and is no folder of Qdrant; name another one")
    if not create:
        raise DamagedError(f"{path} is missing; {REBUILD}")


def _server(url: str) -> QdrantClient:
    key = os.environ.get(KEY) or None
    return QdrantClient(url=url, api_key=key, timeout=_TIMEOUT, check_compatibility=False)


def _folder(path: str) -> QdrantClient:
    return QdrantClient(path=path, force_disable_check_same_thread=True)


def refusal(url: str, error: Exception) -> UserError:
    """Return an error of Qdrant as one line with a remedy."""
    if isinstance(error, UserError):
        return error
    if "://" not in url:
        return _refusal_of_folder(url, error)
    reason, remedy = _reason(error), "start the server, or correct its address"
    kind: type[UserError] = UserError
    if isinstance(error, UnexpectedResponse):
        if error.status_code in (401, 403):
            remedy = f"put a key that may do this into the environment variable {KEY}"
        elif error.status_code == 404:
            kind, remedy = DamagedError, f"correct the address, or {REBUILD}"
        elif full_disk(error):
            remedy = "free some space on the server, and run the same command again"
        else:
            remedy = "see the server's log"
    return kind(f"Qdrant at {url} can't be used: {reason}; {remedy}")


def _refusal_of_folder(path: str, error: Exception) -> UserError:
    if "already accessed by another instance" in str(error):
        return UserError(
            f"{path} is in use by another process, and Qdrant's local mode is for one at a time; "
            "end that one, or run a server: --store-url http://localhost:6333"
        )
    if reason := full_disk(error):
        return UserError(
            f"{path} can't be written: {reason}; free some space, and run the same command again"
        )
    if isinstance(error, OSError) or "readonly database" in str(error):
        return UserError(
            f"{path} can't be used: {_reason(error)}; grant yourself the right, or name another "
            "folder"
        )
    return DamagedError(
        f"the index in {path} can't be used ({_reason(error)}); if it is damaged, {REBUILD}"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnexpectedResponse):
        text = f"{error.status_code} {error.reason_phrase} {error.content.decode(errors='replace')}"
    else:
        text = str(error) or type(error).__name__
    return redacted(" ".join(text.split()))[:300]


def is_of_qdrant(error: Exception) -> bool:
    """Tell whether an error was raised within Qdrant's client."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    return any(name.partition(".")[0] == "qdrant_client" for name in modules)
