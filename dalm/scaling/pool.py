"""Define the pool, the one way in which commands map work over items, and choose it by options."""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import gethostname
from typing import Any, Generic, Protocol, TypeVar

from dalm.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[T], R]
Make = Callable[[], Work[T, R]]
"""Make the work where it is done: there it loads the model, once."""


class Pool(Protocol):
    """Map work over items."""

    def map(self, make: Make[T, R], items: Iterable[T]) -> Generator[R]:
        """Yield the result of each item, in the order of the items.

        Neither the number of workers nor one that dies changes a result.

        Raises:
            UserError: what the work raises.
            WorkerDiedError: a worker died over an item.
        """


class WorkerDiedError(UserError):
    """Report that a worker died, with the items of which one was its work."""

    def __init__(self, items: Sequence[Any] = ()) -> None:
        super().__init__(
            "a worker died over its work again and again: its machine may have too little memory; "
            "use fewer workers, or do the work in this process alone"
        )
        self.items = items


class InProcess:
    """Do the work here, item by item."""

    def map(self, make: Make[T, R], items: Iterable[T]) -> Generator[R]:
        """Yield the results."""
        yield from map(make(), items)


def check_pool(settings: Any) -> None:
    """Refuse a Ray that isn't installed, can't be reached or is too small, and needless options.

    Raises:
        UserError: names the option.
    """
    if settings.ray is None:
        return
    if getattr(settings, "processes", 1) > 1:
        raise UserError(
            "--processes has no effect with --ray, which has --ray-actors; leave it out"
        )
    least, most = settings.ray_actors, settings.ray_max_actors
    if most is not None and most < least:
        raise UserError(
            f"--ray-max-actors {most}: fewer than --ray-actors {least}; raise it or leave it out"
        )
    from dalm.scaling import ray_cluster
    from dalm.scaling.ray_pool import RayPool

    ray_cluster.check_installed()
    RayPool.of(settings).size_in(ray_cluster.find(settings.ray[0], least or 1))


def pool_of(settings: Any) -> Pool:
    """Return the pool that `--ray`, or else `--processes`, asks for."""
    if settings.ray is not None:
        from dalm.scaling.ray_pool import RayPool

        return RayPool.of(settings)
    if getattr(settings, "processes", 1) > 1:
        from dalm.scaling.process_pool import ProcessPool

        return ProcessPool(settings.processes)
    return InProcess()


# Where the work is done


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What comes back from a worker for an item."""

    result: R | None
    refused: str | None = None
    """The message of a UserError."""
    failed: OSError | None = None
    """What the system of the worker's machine says, such as of a full disk."""
    logged: list[tuple[str, int, str]] = field(default_factory=list)
    """Name of the logger, level and message."""

    def take(self) -> R:
        """Log here what was logged there, and return the result.

        Raises:
            UserError: the work raised it.
            OSError: the same.
        """
        for name, level, message in self.logged:
            logging.getLogger(name).log(level, "%s", message)
        if self.refused is not None:
            raise UserError(self.refused)
        if self.failed is not None:
            raise self.failed
        return self.result  # type: ignore[return-value]  # None is a result, too


def check_same(model: str, found: str, expected: str) -> None:
    """Refuse another model in a worker than the command's own, by what identifies its weights.

    Raises:
        UserError: names the model and the machine.
    """
    if found != expected:
        raise UserError(
            f"{model}: another model is under the same name on {gethostname()}; use one that every "
            "machine finds"
        )


class Worker(Generic[T, R]):
    """Do the work on one item after the other; what it logs or refuses comes back with each."""

    def __init__(self, make: Make[T, R]) -> None:
        self._work: Work[T, R] | None = None
        self._refused: str | None = None
        try:
            self._work = make()
        except UserError as error:  # it comes back with the first item
            self._refused = str(error)

    def __call__(self, item: T) -> Outcome[R]:
        """Return what becomes of an item."""
        if self._work is None:
            return Outcome(None, self._refused)
        with _logged() as logged:
            try:
                return Outcome(self._work(item), logged=logged)
            except UserError as error:
                return Outcome(None, str(error), logged=logged)
            except OSError as error:  # Ray would raise something else
                return Outcome(None, failed=error, logged=logged)


class _Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.name, record.levelno, record.getMessage()))


@contextmanager
def _logged() -> Generator[list[tuple[str, int, str]]]:
    """Keep what this package logs, instead of writing it where nobody looks."""
    logger, handler = logging.getLogger("dalm"), _Keeping()
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield handler.kept
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
