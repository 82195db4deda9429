"""Start a Ray of this machine, or join a cluster, and see whether the actors have room there."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from dalm.config.cluster import LOCAL
from dalm.errors import UserError, reason_of

logger = logging.getLogger(__name__)

AUTO = "auto"
HEAD_ROOM = 2
"""CPUs beside those of the actors: Ray Data's own tasks and actor need some, and wait for ever."""
REACHED_WITHIN = 3.0
"""Seconds in which the address takes a connection."""
ANSWERS_WITHIN = 30.0
"""Seconds in which a Ray answers there."""
_TELL = "import sys; from dalm.scaling.ray_cluster import size_of; print(size_of(sys.argv[1]))"
SURROUNDINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told of it
    # Ray starts workers with niceness 15: on a busy machine they hardly run.
    "RAY_worker_niceness": "0",
    # Of native code: it warns of what Ray Data does by itself.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""Environment of a Ray that is started here, unless the user has set it otherwise."""


def check_installed() -> None:
    """Refuse `--ray` without Ray.

    Raises:
        UserError: names the extra.
    """
    missing = [name for name in ("ray", "pandas", "pyarrow") if find_spec(name) is None]
    if missing:
        raise UserError(f'--ray needs {", ".join(missing)}: pip install "indomain[ray]"')


def find(address: str, actors: int) -> "Cluster":
    """Return what a Ray has; for `local`, what the one has that will be started here.

    Raises:
        UserError: no Ray answers there within seconds; names the address and the reason.
    """
    if address == LOCAL:
        return Cluster(address, _local_cpus(actors), _local_gpus())
    if address != AUTO:
        _check_address(address)
    found = _answer_of([sys.executable, "-c", _TELL, address], address)
    cpus, gpus = json.loads(found.splitlines()[-1])
    return Cluster(address, cpus, gpus)


def size_of(address: str) -> str:
    """Return the CPUs and GPUs of a Ray, as JSON."""
    with connected(address, 1) as cluster:
        return json.dumps([cluster.cpus, cluster.gpus])


def _check_address(address: str) -> None:
    """Refuse what is no address, and one where nothing listens or what does is no Ray."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit() or int(port) >= 1 << 16:
        raise UserError(
            f"--ray {address}: not an address; start the command on a machine of the cluster with "
            "--ray auto, or name its head as HOST:PORT, such as 10.0.0.1:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN).close()
    except OSError as error:
        raise UserError(
            f"--ray {address}: no Ray answers there ({reason_of(error)}); start one with "
            "`ray start --head`, or leave the address out to use this machine alone"
        ) from error
    health = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    _answer_of(health, address)


def _answer_of(line: list[str], address: str) -> str:
    """Ask a Ray in a process of its own, and return the output: what is no Ray lets it hang."""
    try:
        done = subprocess.run(
            line, timeout=ANSWERS_WITHIN, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"--ray {address}: no Ray answers there in {ANSWERS_WITHIN:g} s; name the address of "
            "the cluster's head"
        ) from None
    if not done.returncode:
        return done.stdout
    if address == AUTO:
        raise UserError(
            f"--ray {address}: no Ray that takes this one runs on this machine; start one with "
            "`ray start --head`, name the address of a cluster's head, or leave auto out to use "
            "this machine alone"
        )
    raise UserError(
        f"--ray {address}: what listens there is no Ray that takes this one, but something "
        "else, another version or one with another token; name the address of the cluster's "
        "head"
    )


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a Ray has in all."""

    address: str
    cpus: float
    gpus: float

    def pool_size(self, actors: int | None, most: int | None) -> tuple[int, int]:
        """Return how many one-CPU actors are started at least, and at most.

        Raises:
            UserError: the cluster has not enough CPUs for them and Ray Data's own work.
        """
        room = int(self.cpus) - HEAD_ROOM
        least = actors or max(1, room)
        if least > room:
            remedy = f"use --ray-actors {room}" if room > 0 else "use a larger one"
            raise UserError(
                f"--ray-actors {least}: the Ray cluster ({self.address}) has {self.cpus:g} CPUs, "
                f"and {least} actors need {least + HEAD_ROOM}, of which Ray Data itself takes "
                f"{HEAD_ROOM}; {remedy}"
            )
        return least, max(least, min(most or least, room))

    def gpus_of(self, actors: int, wanted: float | None, *, runs_model: bool) -> float:
        """Return the share of GPUs of an actor.

        Raises:
            UserError: the cluster has not enough GPUs for the actors.
        """
        if wanted is None:
            wanted = 1.0 if runs_model and self.gpus >= actors else 0.0
        if wanted * actors > self.gpus:
            raise UserError(
                f"--ray-gpus {wanted:g}: the Ray cluster ({self.address}) has {self.gpus:g} GPUs, "
                f"and {actors} actors need {wanted * actors:g}; use fewer actors, or a smaller "
                "share"
            )
        return wanted

    def tell_actors(self, actors: int, gpus: float) -> None:
        """Log how many actors there are at least, and what each of them takes."""
        logger.info(
            "ray        %d actors or more, each of 1 CPU and %g GPUs; the cluster (%s) has %g and "
            "%g",
            *(actors, gpus, self.address, self.cpus, self.gpus),
        )


@contextmanager
def connected(address: str, actors: int) -> Generator[Cluster]:
    """Use a Ray while the block runs: the one this process has, one at an address, or a new one.

    One that was started here ends with the block. Its CPUs are logical: it has head room however
    few there are.

    Raises:
        UserError: no Ray answers there.
    """
    for name, value in SURROUNDINGS.items():  # Ray reads some when it is imported
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():  # by whoever called this from Python
        yield _described(address)
        return
    _start(address, actors)
    try:
        yield _described(address)
    finally:
        ray.shutdown()


def _start(address: str, actors: int) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"num_cpus": _local_cpus(actors), "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # whatever Ray raises where it can't start or be joined
        raise UserError(
            f"--ray {address}: {reason_of(error)}; start one with `ray start --head`, or leave the "
            "address out to use this machine alone"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray takes it; this package ends commands by it


def _local_cpus(actors: int) -> int:
    return max(os.cpu_count() or 1, actors) + HEAD_ROOM


def _local_gpus() -> int:
    from torch import accelerator

    return accelerator.device_count() if accelerator.is_available() else 0


def _described(address: str) -> Cluster:
    import ray

    found = ray.cluster_resources()
    return Cluster(address, found.get("CPU", 0.0), found.get("GPU", 0.0))
