"""Define the options with which a command works in a Ray cluster."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from dalm.config.options import option, panel

LOCAL = "local"
ON_RAY = {"ray": None}


@panel("Ray")
@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """Cluster, and the actors that do the work there."""

    ray: Annotated[list[str] | None, Parameter(consume_multiple=(0, 1), negative=())] = option(
        None, kept=False
    )
    """Do the work in actors of a Ray cluster, with the same results: auto, from a machine of the
    cluster, or HOST:PORT of its head; without an address a Ray of this machine alone is started.
    Every machine needs this package, and the files under the same paths. Needs the extra ray."""
    ray_actors: int | None = option(None, least=1, needs=ON_RAY, kept=False)
    """Number of actors, each with one CPU; by default as many as the cluster has room for."""
    ray_max_actors: int | None = option(None, least=1, needs={"ray_actors": None}, kept=False)
    """Maximum number of actors: while work waits, more than --ray-actors are started."""

    def __post_init__(self) -> None:
        """Take an option without a value for this machine's own Ray."""
        if self.ray is not None and not self.ray:
            object.__setattr__(self, "ray", [LOCAL])


@panel("Ray")
@dataclass(frozen=True, kw_only=True)
class ModelActors(RayCluster):
    """Cluster, and actors that run a model there."""

    ray_gpus: float | None = option(None, least=0, needs=ON_RAY, kept=False)
    """GPUs of an actor, such as 1 or 0.5; by default 1 where a model runs and the cluster has one
    for each actor."""
