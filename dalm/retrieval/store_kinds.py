"""List the kinds of vector store that keep an index, and open one.

Another package brings its own by an entry point of the group `dalm.vector_stores` that names a
`StoreKind`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

from dalm.errors import UserError
from dalm.plugins import entry_points_of, load_entry_point
from dalm.retrieval.base import VectorStore

ENTRY_POINTS = "dalm.vector_stores"
DEFAULT = "lance"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """Say where a store keeps its passages, and what they are."""

    folder: Path
    """A folder of its own, for a store that writes files; it may not exist yet."""
    table: str
    """A name of its own on a server: letters, digits and _, the first one a letter."""
    dim: int
    """Dimensions of the vectors."""
    columns: Mapping[str, type] = field(default_factory=dict)
    """The passages' further columns, for conditions: str, int, float or bool."""
    url: str | None = None
    """Address of the server."""
    vectors: str = "fp32"
    """How vectors are kept for approximate search: fp32, int8 or binary."""
    tuning: Mapping[str, int] = field(default_factory=dict)
    """What the store's `tuning` was after `optimise`."""
    create: bool = True
    """Whether to make a store that isn't there; otherwise that is damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreKind:
    """Describe a kind of vector store."""

    name: str
    label: str
    path: str
    """`module:callable` that opens a store, given its `StorePlace`."""
    schemes: tuple[str, ...] = ()
    """Schemes of addresses, such as `postgresql`; without any the store has no address."""
    needs_url: bool = False
    vectors: tuple[str, ...] = ("fp32",)
    """What it makes of `--vectors`."""
    needs: tuple[str, ...] = ()
    """Modules that must be installed."""
    extra: str | None = None
    """Extra of this distribution that installs them."""

    def open(self, place: StorePlace) -> VectorStore:
        """Open a store, or make it.

        Raises:
            UserError: a package is missing, or what the store raises: no server, no rights, damage.
        """
        self.check_installed()
        module, _, name = self.path.partition(":")
        opened: Callable[[StorePlace], VectorStore] = attrgetter(name)(import_module(module))
        return opened(place)

    def check_installed(self) -> None:
        """Refuse a missing package.

        Raises:
            UserError: names what installs it.
        """
        missing = next((module for module in self.needs if find_spec(module) is None), None)
        if missing is not None:
            package = f"indomain[{self.extra}]" if self.extra else missing
            raise UserError(f'the store {self.name} needs {missing}: pip install "{package}"')


STORES = {
    kind.name: kind
    for kind in (
        StoreKind(
            name="lance",
            label="LanceDB: in the index's folder, with nothing to start",
            path="dalm.retrieval.stores.lance:LanceStore.open",
        ),
    )
}


def store_kind(name: str) -> StoreKind:
    """Return the kind of vector store called `name`, of `STORES` or of another package.

    Raises:
        UserError: there is none; names those that there are.
    """
    if name in STORES:
        return STORES[name]
    others = entry_points_of(ENTRY_POINTS)
    if name in others:
        kind = load_entry_point(others[name])
        if not isinstance(kind, StoreKind):
            raise UserError(
                f"vector store {name!r} ({others[name].value}) is a {type(kind).__name__}, not a "
                "StoreKind; update or remove the package that brings it"
            )
        return kind
    known = ", ".join([*STORES, *others])
    raise UserError(f"--store {name}: no such vector store; choose one of {known}")
