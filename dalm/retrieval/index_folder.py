"""Keep an index in a folder: generations of vectors, and a pointer to the one that is searched.

    idx/index.json                    the number of the generation that is searched
    idx/generations/3/index.json      what made the generation: retriever, prompts, columns
    idx/generations/3/store/          its passages, vectors and words

A generation is the work of one retriever. Another one builds a generation beside it; the pointer is
replaced when that is complete, so that a search meets the old one or the new one and nothing
between them. A process that searches a generation holds its folder, which nobody deletes meanwhile.
"""

import logging
import os
import secrets
import shutil
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

from dalm import artifacts
from dalm.analyser import ANALYSER
from dalm.errors import UserError
from dalm.file_reading import DamagedError, read_record, user_path
from dalm.retrieval.base import REBUILD, VectorStore
from dalm.retrieval.folder_holds import delete_unless_held, finish_deletions, hold
from dalm.retrieval.store_kinds import DEFAULT, FP32, StorePlace, store_kind
from dalm.retrieval.where import FIELDS

logger = logging.getLogger(__name__)

FORMAT = 1
POINTER, GENERATIONS, STORE = "index.json", "generations", "store"
_TYPES = {"text": str, "whole number": int, "number": float, "true or false": bool}
_NAMES = {kind: name for name, kind in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class Pointer:
    """Name the generation that is searched, and the one before it."""

    format: int
    generation: Annotated[int, 1]
    previous: int | None = None
    newest: int = 0
    """The newest generation that was ever complete; a later one is unfinished."""

    @property
    def complete_up_to(self) -> int:
        """The newest generation that is complete."""
        return max(self.newest, self.generation, self.previous or 0)


@dataclass(frozen=True, slots=True)
class Description:
    """What made a generation, and how it is searched."""

    format: int
    retriever: str
    adapter: str | None
    fingerprint: str
    dim: Annotated[int, 1]
    query_prompt: str
    passage_prompt: str
    query_max_len: Annotated[int, 1]
    passage_max_len: Annotated[int, 1]
    retriever_is_autoregressive: bool | None
    columns: dict[str, str]
    """Types of the passages' further columns, for conditions."""
    chunking: dict[str, Any] = field(default_factory=dict)
    """How documents were split; empty without documents."""
    dense_weight: float | None = None
    """Weight of the dense scores in hybrid search; None: not calibrated."""
    tuning: dict[str, int] = field(default_factory=dict)
    """How an approximate search reads the store; empty: every vector is compared."""
    analyser: str = "words-0"
    """What splits texts into words for text search."""
    store: str = DEFAULT
    """Kind of vector store."""
    url: str | None = None
    """Address of the store's server, without a password."""
    table: str = ""
    """Its table on the server."""
    vectors: str = FP32
    """What candidates are found by: the vectors in fp32, or codes of them (int8, binary)."""
    encoder_backend: str = "torch"
    """What computes the vectors of passages and queries: torch, or onnx-int8."""
    query_fingerprint: str | None = None
    """Of the adapters that only queries pass; empty: none, None: an earlier version wrote this."""

    def made_like(self, other: "Description") -> bool:
        """Tell whether the other's retriever is this one's: weights, prompts and lengths."""
        same_adapters = (self.query_fingerprint or "") == (other.query_fingerprint or "")
        same_vectors = self.has_vectors_like(other)
        return (
            same_adapters and same_vectors and self._shares(other, "query_prompt", "query_max_len")
        )

    def has_vectors_like(self, other: "Description") -> bool:
        """Tell whether the other's passages have the vectors that they have here."""
        return self._shares(other, "fingerprint", "encoder_backend")

    def kept_like(self, other: "Description") -> bool:
        """Tell whether the other is kept in the same kind of store, at the same place, alike."""
        return self._shares(other, "store", "url", "vectors")

    def _shares(self, other: "Description", *names: str) -> bool:
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def column_types(self) -> dict[str, type]:
        """The columns with Python's types."""
        return {name: _TYPES[kind] for name, kind in self.columns.items() if kind in _TYPES}

    def with_columns(self, types: dict[str, type]) -> "Description":
        """Return the description with other columns."""
        return replace(self, columns={name: _NAMES[kind] for name, kind in types.items()})


class Generation:
    """A generation of an index: its folder, its description and its store.

    `unfinished`: it was never searched. `held`: its folder isn't deleted while this object lives.
    `store_url`: its store's address with a password, which the folder doesn't keep.
    """

    def __init__(
        self,
        folder: Path,
        *,
        unfinished: bool = False,
        held: bool = False,
        store_url: str | None = None,
    ) -> None:
        if held and (handle := hold(folder)) is not None:
            weakref.finalize(self, os.close, handle)
        self.folder, self.unfinished = folder, unfinished
        self.carried_over = False
        """Whether its passages are another generation's, and not its source's alone."""
        self._store_url = store_url
        self.number = int(folder.name)
        self.description = read_record(folder / POINTER, Description, REBUILD)
        if self.description.format != FORMAT:
            raise DamagedError(
                f"{folder} has format {self.description.format}, and this version reads {FORMAT}; "
                f"{REBUILD}"
            )
        if self.description.analyser != ANALYSER:
            raise DamagedError(
                f"the words in {folder} are by the analyser {self.description.analyser}, and this "
                f"version searches by {ANALYSER}; {REBUILD}"
            )

    @property
    def follows_source(self) -> bool:
        """Whether it is being built, and holds what its source has and nothing else."""
        return self.unfinished and not self.carried_over

    @cached_property
    def store(self) -> VectorStore:
        """The store, opened when it is first needed.

        Raises:
            UserError: it is damaged, or its server can't be used.
        """
        made = self.description
        place = StorePlace(
            folder=self.folder / STORE,
            table=made.table,
            dim=made.dim,
            columns=made.column_types,
            url=self._address(),
            tuning=made.tuning,
            vectors=made.vectors,
            create=self.unfinished,
        )
        return store_kind(made.store).open(place)

    def opened(self) -> "Generation":
        """Open the store now, and return the generation; raises as `store`."""
        assert self.store is not None
        return self

    def _address(self) -> str | None:
        """Return the store's address, with the password if one was given for this address."""
        given, kept = self._store_url, self.description.url
        if given and kept:
            with suppress(UserError):  # the address of another kind of store
                if store_kind(self.description.store).kept_url(given) == kept:
                    return given
        return kept

    def drop_tables(self) -> None:
        """Delete the store's tables on a server; if it can't be used, say that they are left."""
        if self.description.url is None:
            return
        try:
            self.store.drop()
        except UserError as error:
            logger.warning("table %s is left on the server: %s", self.description.table, error)

    def extend_columns(self, types: dict[str, type]) -> None:
        """Have the store keep further columns; those that are there keep their types."""
        self.store.add_columns(types)
        columns = {name: kind for name, kind in self.store.columns.items() if name not in FIELDS}
        self.describe(self.description.with_columns(columns))

    def optimise(self, *, in_use: bool) -> float | None:
        """Have the store prepare its search, and keep what it found; returns what the store does.

        Raises:
            UserError: as `VectorStore.optimise`.
        """
        recall = self.store.optimise(in_use=in_use)
        if dict(self.store.tuning) != self.description.tuning:
            self.describe(replace(self.description, tuning=dict(self.store.tuning)))
        return recall

    def describe(self, description: Description) -> None:
        """Replace the description."""
        artifacts.write_json(self.folder / POINTER, asdict(description))
        self.description = description


class IndexFolder:
    """The folder of an index; `store_url` as for a `Generation`."""

    def __init__(self, path: str | Path, store_url: str | None = None) -> None:
        self.path = user_path(path)
        self.store_url = store_url

    @property
    def pointer(self) -> Pointer | None:
        """The pointer; None if no generation is complete yet."""
        file = self.path / POINTER
        remedy = f"delete the folder {self.path}, and build the index again"
        return read_record(file, Pointer, remedy) if file.exists() else None

    def complete_pointer(self) -> Pointer:
        """Return the pointer.

        Raises:
            UserError: no generation is complete.
        """
        pointer = self.pointer
        if pointer is None and self.numbers():
            raise UserError(
                f"the index in {self.path} isn't whole yet: wait for the dalm index that builds "
                "it, or run that command again, which goes on where it was"
            )
        if pointer is None:
            raise UserError(
                f"{self.path} is not an index; build it: dalm index PASSAGES --index-dir "
                f"{self.path} --retriever-name-or-path RETRIEVER"
            )
        return pointer

    def check_is_index(self) -> None:
        """Refuse a folder that holds something else.

        Raises:
            UserError: names the folder.
        """
        artifacts.check_folder("--index-dir", self.path)
        if self.path.is_symlink() and not self.path.exists():
            raise UserError(f"--index-dir {self.path}: a link to a folder that doesn't exist")
        if self.path.is_dir() and any(self.path.iterdir()) and not self._folders().is_dir():
            raise UserError(f"--index-dir {self.path} exists and is no index; name another folder")

    def current(self, *, to_search: bool = True) -> Generation:
        """Open the generation that is searched; one `to_search` stays while the object lives.

        Raises:
            UserError: no index, or a damaged one.
        """
        return self._opened(lambda pointer: pointer.generation, to_search)

    def previous(self, *, to_search: bool = True) -> Generation:
        """Open the generation before the one that is searched; `to_search` as for `current`.

        Raises:
            UserError: there is none, or a damaged one.
        """
        return self._opened(self.number_before, to_search)

    def number_before(self, pointer: Pointer) -> int:
        """Return the number of the generation before the one that is searched.

        Raises:
            UserError: there is none.
        """
        if pointer.previous is None or pointer.previous not in self.numbers():
            raise UserError(f"{self.path} has no earlier generation to go back to")
        return pointer.previous

    def _opened(self, number_of: Callable[[Pointer], int], to_search: bool) -> Generation:
        while True:
            pointer = self.complete_pointer()
            try:
                return self._open(number_of(pointer), held=to_search).opened()
            except UserError:
                if self.pointer == pointer:
                    raise  # else it was deleted after the pointer was read

    def described(self, *, previous: bool = False) -> Description | None:
        """Return what made the generation that is searched, or the one before it.

        None: there is none, or it can't be read.
        """
        with suppress(UserError):
            pointer = self.complete_pointer()
            number = self.number_before(pointer) if previous else pointer.generation
            return self._open(number).description
        return None

    def _folders(self) -> Path:
        return self.path / GENERATIONS

    def _open(self, number: int, *, held: bool = False) -> Generation:
        folder = self._folders() / str(number)
        with suppress(FileNotFoundError):  # deleted since the line before
            if folder.is_dir():
                unfinished = number > self._complete_up_to()
                url = self.store_url
                return Generation(folder, unfinished=unfinished, held=held, store_url=url)
        raise UserError(f"{folder} is missing: the index is damaged; {REBUILD}")

    def _complete_up_to(self) -> int:
        pointer = self.pointer
        return pointer.complete_up_to if pointer else 0

    def numbers(self) -> list[int]:
        """Return the numbers of all generations, complete or not, in order."""
        if not self._folders().is_dir():
            return []
        names = (each.name for each in self._folders().iterdir())
        return sorted(int(name) for name in names if name.isdecimal())

    def prepare(self) -> None:
        """Make the folder, so that it is known as an index's from the beginning."""
        with artifacts.explained(self.path):
            self._folders().mkdir(parents=True, exist_ok=True)

    def begin(self, description: Description) -> Generation:
        """Return a generation to build: an unfinished one of the same retriever, or a new one.

        An unfinished one may be whole, if its process was killed before the pointer was replaced.
        """
        complete = self._complete_up_to()
        for number in self.numbers():
            if number <= complete:
                continue
            try:
                found = self._open(number)
                made = found.description
                if made.made_like(description) and made.kept_like(description):
                    found.describe(replace(description, columns=made.columns, table=made.table))
                    return found.opened()
                found.drop_tables()
            except DamagedError:  # killed before its description or its store was whole
                pass
            shutil.rmtree(self._folders() / str(number))
        number = max([complete, *self.numbers()]) + 1
        folder = self._folders() / str(number)
        folder.mkdir(parents=True)
        named = replace(description, table=f"dalm_{secrets.token_hex(6)}_{number}")
        artifacts.write_json(folder / POINTER, asdict(named))
        return Generation(folder, unfinished=True, store_url=self.store_url).opened()

    def switch(self, number: int) -> None:
        """Let searches meet a generation from now on."""
        self._clean_up()
        pointer = self.pointer
        before = pointer.generation if pointer else None
        previous = before if before != number else pointer.previous if pointer else None
        newest = max(self._complete_up_to(), number)
        artifacts.write_json(self.path / POINTER, asdict(Pointer(FORMAT, number, previous, newest)))

    def roll_back(self) -> tuple[int, int]:
        """Switch to the generation before; return the numbers, the new one first.

        Raises:
            UserError: there is none.
        """
        number, before = self.previous().number, self.complete_pointer().generation
        self.switch(number)
        return number, before

    def drop(self, keep: int) -> list[int]:
        """Delete complete generations but the one that is searched and `keep` others.

        Those are the one before it, and the newest. One that a process still searches stays, too.
        """
        pointer = self.pointer
        assert pointer is not None
        others = [
            number
            for number in self.numbers()
            if number <= pointer.complete_up_to and number != pointer.generation
        ]
        others.sort(key=lambda number: (number == pointer.previous, number))
        dropped = []
        for number in others[: max(0, len(others) - keep)]:
            if delete_unless_held(self._folders() / str(number), partial(self._drop, number)):
                dropped.append(number)
            else:
                logger.info("kept       generation %d: a process searches it", number)
        return dropped

    def _clean_up(self) -> None:
        """Delete what processes that were killed have left of files and of deleted generations."""
        finish_deletions(self._folders())
        for folder in (self.path, *(self._folders() / str(number) for number in self.numbers())):
            artifacts.delete_unfinished(folder)

    def _drop(self, number: int) -> None:
        with suppress(DamagedError):
            self._open(number).drop_tables()
