"""Run a function in a real process of its own, without the seconds that importing takes."""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE = 300.0


class Forked:
    """A fork of this process that runs a function and ends with the code that it returns."""

    def __init__(self, function: Callable[[], int], log: Path) -> None:
        self.log, self._code = log, None
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                for stream in (1, 2):
                    os.dup2(out, stream)
                sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)  # not pytest's
                logging.getLogger().handlers.clear()
                code = function()
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                while True:  # a signal that comes here must not let this process go on as pytest
                    with suppress(BaseException):
                        os._exit(code)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_for(self, file: Path) -> None:
        """Wait until the process has made a file."""
        limit = time.monotonic() + PATIENCE
        while not file.exists():
            assert self.poll() is None, self.text()
            assert time.monotonic() < limit, self.text()
            time.sleep(0.005)

    def poll(self) -> int | None:
        if self._code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if done else None
        return self._code

    def end(self) -> int:
        """Return the exit code, when the process has ended."""
        limit = time.monotonic() + PATIENCE
        while (code := self.poll()) is None:
            if time.monotonic() > limit:
                self.send(signal.SIGKILL)
            time.sleep(0.005)
        return code

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


def waiting_at(target: str, flag: Path) -> None:
    """Let a function or method make a file and wait for ever: a process is then in the middle."""

    def wait(*_: object, **__: object) -> None:
        flag.touch()
        while True:
            time.sleep(0.05)

    pytest.MonkeyPatch().setattr(target, wait)
