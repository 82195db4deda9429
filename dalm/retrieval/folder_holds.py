"""Hold a folder that is being read, so that no other process deletes it."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which deletes no file that is open
    fcntl = None  # type: ignore[assignment]

_DELETED = ".deleted-"


def hold(folder: Path) -> int | None:
    """Hold a folder until the descriptor returned is closed, or the process ends.

    The lock (flock) is shared between readers and needs no right to write. None: the platform or
    the file system has no such locks.

    Raises:
        FileNotFoundError: it isn't there, or is being deleted.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        is_there = os.path.samestat(os.fstat(handle), folder.stat())
    except (BlockingIOError, FileNotFoundError):
        is_there = False
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    if not is_there:
        os.close(handle)
        raise FileNotFoundError(folder)
    return handle


def delete_unless_held(folder: Path, first: Callable[[], None] = lambda: None) -> bool:
    """Delete a folder, at once for those who look for it; return False if it is held.

    `first` is called before, if it isn't held.
    """
    handle = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if handle is not None:
            with suppress(OSError):  # a file system without locks
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
        first()
        hidden = folder.with_name(f"{_DELETED}{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            folder.rename(hidden)
        except PermissionError:  # Windows, and a file in it is open
            return False
        shutil.rmtree(hidden, ignore_errors=True)
    finally:
        if handle is not None:
            os.close(handle)
    return True


def finish_deletions(parent: Path) -> None:
    """Delete what a process that was killed while it deleted folders has left of them."""
    for folder in parent.glob(f"{_DELETED}*"):
        shutil.rmtree(folder, ignore_errors=True)
