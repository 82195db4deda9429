"""Map work over items on several processes of this machine."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, connection, get_context
from threading import Thread
from typing import Any

from dalm import stop_signals
from dalm.scaling.pool import Make, Outcome, R, T, Worker, WorkerDiedError

QUEUED = 3  # items per process submitted at once
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


class ProcessPool:
    """Do the work on several processes, with a bounded number of items under way."""

    def __init__(self, processes: int) -> None:
        self.processes = processes

    def map(self, make: Make[T, R], items: Iterable[T]) -> Generator[R]:
        """Yield the results; closing the generator ends the processes."""
        queue: deque[tuple[T, Future[Outcome[R]]]] = deque()
        before = set(active_children())
        # Spawned, not forked: a fork would copy the locks of this process's threads, held or not.
        pool = ProcessPoolExecutor(
            self.processes,
            mp_context=get_context("spawn"),
            initializer=_initialise,
            initargs=(make,),
        )
        try:
            for item in items:
                queue.append((item, pool.submit(_work_on, item)))
                if len(queue) >= QUEUED * self.processes:
                    yield _first(queue)
            while queue:
                yield _first(queue)
        except BrokenProcessPool as error:
            raise WorkerDiedError([item for item, _ in queue]) from error
        except BaseException:  # a stop, too: nobody waits for what the workers are at
            for worker in set(active_children()) - before:
                worker.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _first(queue: deque[tuple[T, Future[Outcome[R]]]]) -> R:
    """Take the oldest item's result; an item whose process died stays, to be named."""
    found = queue[0][1].result()
    queue.popleft()
    return found.take()


def end_with_parent() -> None:
    """Let this process end when its parent does, however that ends; signals are the parent's.

    Linux kills it. Elsewhere, and if the parent is gone already, a thread notices.
    """
    for number in stop_signals.NUMBERS:  # a terminal sends Ctrl-C to all of its processes
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


_worker: Worker[Any, Any] | None = None


def _initialise(make: Make[Any, Any]) -> None:
    global _worker  # noqa: PLW0603 - what a worker process keeps between items
    end_with_parent()
    _worker = Worker(make)


def _work_on(item: Any) -> Outcome[Any]:
    assert _worker is not None
    return _worker(item)
