"""Map work over items in actors of a Ray cluster, through Ray Data."""

import logging
import os
import pickle
import socket
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

import dalm
from dalm.errors import UserError, reason_of
from dalm.scaling import ray_cluster
from dalm.scaling.pool import Make, Outcome, R, T, Worker, WorkerDiedError

logger = logging.getLogger(__name__)

TRIES = 4
"""How often an item is tried whose actor dies."""


@dataclass(slots=True)
class RayPool:
    """Do the work in actors of a Ray cluster; an actor that dies is replaced, its item repeated.

    Every item is one block of a dataset, pickled. The object store holds all of them, on disk
    where memory ends; how many results wait is bounded by its memory (Ray Data's backpressure).
    """

    address: str
    """`local`: a Ray of this machine alone that ends with the work; `auto`, or host:port."""
    actors: int | None = None
    """Actors; with `max_actors` at least so many. None: as many as the cluster has room for."""
    max_actors: int | None = None
    gpus: float | None = None
    """GPUs of an actor. None: one if the work runs a model and the cluster has any."""
    runs_model: bool = False
    done: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Items that each process did, by machine and process id, of the last `map`."""

    @classmethod
    def of(cls, settings: Any) -> Self:
        """Return the pool of the options of a command."""
        runs_model = getattr(settings, "device", "cpu") != "cpu"
        gpus = getattr(settings, "ray_gpus", None)
        return cls(settings.ray[0], settings.ray_actors, settings.ray_max_actors, gpus, runs_model)

    def size_in(self, cluster: ray_cluster.Cluster) -> tuple[tuple[int, int], float]:
        """Return how many actors are started at least and at most, and the GPUs of each.

        Raises:
            UserError: the cluster hasn't enough for them.
        """
        size = cluster.pool_size(self.actors, self.max_actors)
        return size, cluster.gpus_of(size[0], self.gpus, runs_model=self.runs_model)

    def map(self, make: Make[T, R], items: Iterable[T]) -> Generator[R]:
        """Yield the results of the items; no Ray is started for none."""
        waiting = iter(items)
        first = next(waiting, None)
        if first is None:
            return
        with ray_cluster.connected(self.address, self.actors or 1) as cluster:
            size, gpus = self.size_in(cluster)
            cluster.tell_actors(size[0], gpus)
            self.done = Counter()
            place = -1
            for place, (row, worker, outcome) in enumerate(
                _mapped(make, chain([first], waiting), size, gpus)
            ):
                assert row == place, "Ray Data keeps the order"
                self.done[worker] += 1
                found: Outcome[R] = pickle.loads(outcome)
                yield found.take()
        shares = " ".join(str(count) for count in self.done.values())
        logger.info("ray        %d blocks by %d processes: %s", place + 1, len(self.done), shares)


def _mapped(
    make: Make[Any, Any], items: Iterable[Any], size: tuple[int, int], gpus: float
) -> Iterator[tuple[int, tuple[str, int], bytes]]:
    """Yield number, worker and outcome of each item, in their order."""
    import pyarrow as pa
    import ray
    from ray.data import ActorPoolStrategy

    _configure()
    schema = pa.schema([("row", pa.int64()), ("item", pa.large_binary())])
    immortal = {"max_restarts": -1, "max_task_retries": -1}
    with _explained():
        blocks = [
            ray.put(pa.table({"row": [row], "item": [pickle.dumps(item)]}, schema=schema))
            for row, item in enumerate(items)
        ]
        tries = ray.remote(num_cpus=0, **immortal)(_Tries).remote()
        mapped = ray.data.from_arrow_refs(blocks).map_batches(
            _Actor,
            fn_constructor_args=(make, tries, str(Path.cwd()), dalm.__version__),
            batch_format="pyarrow",
            batch_size=None,  # a block
            compute=ActorPoolStrategy(min_size=size[0], max_size=size[1]),
            num_cpus=1,
            num_gpus=gpus or None,
        )
        batches = mapped.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        for found in (row for batch in batches for row in batch.to_pylist()):
            if found["outcome"] is None:
                item = ray.get(blocks[found["row"]])["item"][0].as_py()
                raise WorkerDiedError([pickle.loads(item)])
            yield found["row"], (found["host"], found["process"]), found["outcome"]
        repeated = ray.get(tries.repeated.remote())
    if repeated:
        logger.warning("ray        %d blocks were repeated: their actor died", repeated)


@contextmanager
def _explained() -> Iterator[None]:
    """Say what Ray says in one line, unless the work itself has failed."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError:
        raise
    except RayError as error:
        raise UserError(
            f"--ray: {_reason(error)}; see that every machine of the cluster has this package "
            "and enough memory, and start the same command again"
        ) from error


def _reason(error: Exception) -> str:
    """Return what Ray says; of an actor that can't be made, the error at the traceback's end."""
    lines = str(error).strip().splitlines()
    return reason_of(ValueError(lines[-1]) if lines and "creation task" in lines[0] else error)


def _configure() -> None:
    from ray.data import DataContext

    # Its errors are raised, too, and said in one line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.max_consecutive_actor_init_deaths = TRIES - 1


class _Tries:
    """Count how often each item and each actor is begun: Ray repeats for ever what kills them."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.making: Counter[str] = Counter()

    def make(self, actor: str) -> int:
        """Return how often an actor was begun in turn and not made, this time included."""
        self.making[actor] += 1
        return self.making[actor]

    def made(self, actor: str) -> None:
        """Note that an actor is there."""
        del self.making[actor]

    def begin(self, row: int) -> int:
        """Return how often an item is begun, this time included."""
        self.counts[row] += 1
        return self.counts[row]

    def repeated(self) -> int:
        """Return how many items were begun more than once."""
        return sum(count > 1 for count in self.counts.values())


class _Actor:
    """Hold the work in a process of the cluster, and do it on blocks."""

    def __init__(self, make: Make[Any, Any], tries: Any, folder: str, version: str) -> None:
        import ray

        own = ray.get_runtime_context().get_actor_id()  # the same one when it is started again
        if ray.get(tries.make.remote(own)) > TRIES:
            make = _refuse
        with suppress(OSError):  # relative paths are the command's; another machine may lack it
            os.chdir(folder)
        self.worker = Worker(partial(_made, make, version))
        ray.get(tries.made.remote(own))
        self.tries = tries

    def __call__(self, block: Any) -> Any:
        """Return a table with the outcome of each item; without one if it kills its actors."""
        import pyarrow as pa

        found = [self._outcome(each["row"], each["item"]) for each in block.to_pylist()]
        columns = {
            "row": block["row"],
            "host": [socket.gethostname()] * len(found),
            "process": [os.getpid()] * len(found),
            "outcome": pa.array(found, pa.large_binary()),
        }
        return pa.table(columns)

    def _outcome(self, row: int, item: bytes) -> bytes | None:
        import ray

        if ray.get(self.tries.begin.remote(row)) > TRIES:
            return None
        return pickle.dumps(self.worker(pickle.loads(item)))


def _refuse() -> Callable[[Any], Any]:
    raise WorkerDiedError


def _made(make: Make[Any, Any], version: str) -> Callable[[Any], Any]:
    """Make the work, by the same version of this package: another may give other results."""
    if dalm.__version__ != version:
        raise UserError(
            f"--ray: {socket.gethostname()} has dalm {dalm.__version__}, and the command "
            f"{version}; install the same version everywhere"
        )
    return make()
