"""List the kinds of vector store that keep an index, and open one.

Another package brings its own by an entry point of the group `dalm.vector_stores` that names a
`StoreKind`.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

from dalm.errors import UserError
from dalm.file_reading import DamagedError, user_path
from dalm.plugins import entry_points_of, load_entry_point
from dalm.redaction import redacted, without_password
from dalm.retrieval.base import VectorStore

ENTRY_POINTS = "dalm.vector_stores"
DEFAULT = "lance"
FP32 = "fp32"
_AN_ADDRESS = re.compile(r"^(?:\w+:/+|//)[^/]*@|^[^/]*:[^/]*@|^[^/]+@[^/]+:\d")
"""No folder, but an address with a name or key in it whose scheme is missing or misspelt."""


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
    tuning: Mapping[str, int] = field(default_factory=dict)
    """What the store's `tuning` was after `optimise`."""
    vectors: str = FP32
    """What candidates are found by: the vectors in fp32, or codes of them (int8, binary)."""
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
    takes_folder: bool = False
    """Whether an address may also be a folder, which is kept as an absolute path."""
    needs: tuple[str, ...] = ()
    """Modules that must be installed."""
    extra: str | None = None
    """Extra of this distribution that installs them."""
    vectors: tuple[str, ...] = (FP32,)
    """What it can find candidates by: fp32, int8, binary."""

    def kept_url(self, url: str | None) -> str | None:
        """Return an address as an index keeps it, without a password.

        Raises:
            UserError: it is missing, of no use, of another scheme, or can't be taken apart.
        """
        wanted = " or ".join(f"{scheme}://..." for scheme in self.schemes)
        also = ", or a folder" if self.takes_folder else ""
        if url is None:
            if self.needs_url:
                raise UserError(
                    f"--store {self.name} needs the server's address{also}: --store-url"
                )
            return None
        if not self.schemes:
            raise UserError(f"--store-url has no effect on --store {self.name}; leave it out")
        scheme, found, _ = url.partition("://")
        if self.takes_folder and url and not found and not _AN_ADDRESS.search(url):
            return str(user_path(url).resolve())
        if not found or scheme not in self.schemes:
            shown = redacted(re.split("[?#]", url)[0])
            raise UserError(f"--store-url {shown}: not an address such as {wanted}{also}")
        try:
            return without_password(url)
        except ValueError as error:
            reason = "a port that is no number" if "ort " in str(error) else str(error)
            raise UserError(
                f"--store-url {scheme}://...: {reason}; in a password write / as %2F and @ as %40"
            ) from None

    def check_vectors(self, vectors: str) -> None:
        """Refuse codes of vectors that the store doesn't have.

        Raises:
            UserError: names those that it has.
        """
        if vectors not in self.vectors:
            raise UserError(
                f"--store {self.name} has no {vectors} vectors; choose --vectors "
                f"{' or '.join(self.vectors)}, or another store"
            )

    def check_server(self, url: str | None) -> None:
        """Refuse a server that can't be used.

        Raises:
            UserError: as `open`.
        """
        self.check_installed()
        if url is not None:
            with suppress(DamagedError):  # there is no such table
                self.open(
                    StorePlace(folder=Path(), table="dalm_none", dim=1, url=url, create=False)
                )

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
            vectors=(FP32, "int8", "binary"),
        ),
        StoreKind(
            name="pgvector",
            label="PostgreSQL with pgvector: a server, --store-url postgresql://...",
            path="dalm.retrieval.stores.pgvector:PgvectorStore",
            schemes=("postgresql", "postgres"),
            needs_url=True,
            needs=("psycopg", "pgvector"),
            extra="pgvector",
            vectors=(FP32, "binary"),
        ),
        StoreKind(
            name="qdrant",
            label="Qdrant: a server, --store-url http://..., or a folder",
            path="dalm.retrieval.stores.qdrant:QdrantStore",
            schemes=("http", "https"),
            needs_url=True,
            takes_folder=True,
            needs=("qdrant_client",),
            extra="qdrant",
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
