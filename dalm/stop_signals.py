"""End a command within seconds on SIGTERM, SIGHUP or Ctrl-C, and leave nothing unfinished behind.

A signal raises `Stopped` in the main thread at once. Work that is better brought to an end, such as
a training step, puts it off, but not longer than `GRACE` seconds. Native code that doesn't return
keeps Python from raising anything: `LIMIT` seconds later a thread ends the process.
"""

import _thread
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any

GRACE = 5.0
"""Seconds that a signal may be put off."""
LIMIT = 5.0
"""Seconds after that in which the main thread has to end."""
ECHO = 1.0
"""Seconds in which a second signal is the first one again: launchers pass on what all get."""
NUMBERS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Stopped(KeyboardInterrupt):
    """Report that a signal ends the command; its text says how to go on, if it says anything."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """Return 143 for SIGTERM, 130 for Ctrl-C, 129 for SIGHUP."""
        return 128 + self.number


class _State:
    """What the handler, the watching thread and the blocks of this module know of each other."""

    def __init__(self) -> None:
        self.listening = False
        self.depth = 0  # blocks that put signals off
        self.pending: int | None = None
        self.since = 0.0  # when the pending one came
        self.overdue = False
        self.settling = False  # the stop is being carried out, for as long as that takes
        self.reported = False
        self.hint: Callable[[], str] = str
        self.cleanups: list[Callable[[], object]] = []


_state = _State()


def listen() -> None:
    """Let the signals end this process from now on; ignored ones (`nohup`) stay ignored."""
    if _state.listening or current_thread() is not main_thread():
        return
    _state.listening = True
    _state.reported = False  # whatever an earlier run in this process has said
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)
    _install()
    reader, writer = socket.socketpair()  # Windows takes no pipe
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    Thread(target=_watch, args=(reader,), name="stop signals", daemon=True).start()


def _forget() -> None:
    """Listen no more in a forked process: what it is sent would wake this one's watching thread."""
    if _state.listening:
        signal.set_wakeup_fd(-1)
        cleanups = _state.cleanups
        _state.__init__()  # type: ignore[misc]
        _state.cleanups = cleanups


def on_abrupt_end(cleanup: Callable[[], None]) -> Callable[[], None]:
    """Have `cleanup` called when the process is ended while native code runs; a decorator."""
    _state.cleanups.append(cleanup)
    return cleanup


def report(stop: KeyboardInterrupt, write: Callable[[str], object]) -> int:
    """Write what a stop has to say, and return the exit code."""
    write("".join(["stopped", *map(str, stop.args)]))
    _state.reported = True  # not before: a process ended in between would have said nothing
    return getattr(stop, "exit_code", 130)


@contextmanager
def explaining(hint: Callable[[], str]) -> Iterator[None]:
    """Have a stop within the block say how to go on: `hint()` follows the word "stopped"."""
    before, _state.hint = _state.hint, hint
    try:
        yield
    except KeyboardInterrupt as stop:
        if not stop.args:
            stop.args = (hint(),)
        raise
    finally:
        _state.hint = before


@contextmanager
def put_off() -> Iterator[None]:
    """Put a signal off until the block ends, for `GRACE` seconds at most; a second one ends it.

    In a program that doesn't `listen` the block alone handles signals, and there is no time limit.
    """
    if current_thread() is not main_thread():  # signals reach only the main thread
        yield
        return
    outermost = _state.depth == 0
    before = [] if _state.listening or not outermost else _install()
    _state.depth += 1
    try:
        yield
    except BaseException:
        if outermost:
            _take_pending()
        raise
    finally:
        _state.depth -= 1
        for number, handler in before:
            signal.signal(number, handler)
    if outermost and (pending := _take_pending()):
        signal.raise_signal(pending)


def pending() -> int | None:
    """Return the signal that was put off, if there is one."""
    return _state.pending


def settle() -> None:
    """Take the signal over: the caller carries the stop out, in its own time."""
    _state.settling = True


def _take_pending() -> int | None:
    number = None if _state.settling else _state.pending
    _state.pending, _state.settling = None, False
    return number


def _install() -> list[tuple[int, Any]]:
    before: list[tuple[int, Any]] = []
    for number in NUMBERS:
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):
            before.append((number, signal.signal(number, _handle)))
    return before


def _handle(number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.depth and _state.pending is None:
        _state.pending, _state.since = number, now
        return
    if not _state.overdue and _state.pending is not None and now - _state.since < ECHO:
        return
    raise Stopped(number)


# The watching thread


def _watch(reader: socket.socket) -> None:
    """Raise what was put off too long, then end a process that doesn't react."""
    number = reader.recv(1)[0]
    while number not in NUMBERS:
        number = reader.recv(1)[0]
    start = time.monotonic()
    reader.setblocking(False)
    while _state.settling or time.monotonic() < start + GRACE:
        if time.monotonic() > start + ECHO and _has_another(reader):
            break
        time.sleep(0.05)
    if _state.depth and not _state.settling:
        _state.overdue = True
        _thread.interrupt_main(signal.Signals(number))
    time.sleep(LIMIT)
    _end(number)


def _has_another(reader: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return any(number in NUMBERS for number in reader.recv(64))
    return False


def _end(number: int) -> None:
    hint = ""
    with suppress(Exception):
        hint = _state.hint()
    for cleanup in _state.cleanups:
        with suppress(Exception):
            cleanup()
    if not _state.reported:
        with suppress(OSError):
            os.write(2, f"\ndalm: stopped{hint}\n".encode())  # after a progress bar
    os._exit(128 + number)
