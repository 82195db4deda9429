"""Write documents into the index that is served, one request at a time."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import torch
from jaxtyping import Float
from torch import Tensor

from dalm import artifacts
from dalm.errors import UserError
from dalm.records import PROVENANCE, Passage
from dalm.retrieval.documents import Replaced, passages_from, passages_of, replace_document
from dalm.retrieval.index_folder import Generation
from dalm.retrieval.stored_values import column_types, values_of
from dalm.retrieval.where import KINDS
from dalm.serving.api_errors import ApiError, invalid
from dalm.serving.open_index import SharedRetriever
from dalm.serving.service import Service
from dalm.serving.slots import Slots

logger = logging.getLogger(__name__)
T = TypeVar("T")

WAITING = 8
"""Changes that wait for their turn; a further one is refused with status 429."""
BLOCK = 16
"""Passages that are encoded at once: searches get the retriever in between."""
MOST_COLUMNS = 100
RESERVED = frozenset({"id", "text", "title", *PROVENANCE})
"""Names that further columns can't have."""


class DocumentWriter:
    """Change the generation that is searched; searches meet each change at once."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._turns = Slots(1, WAITING)

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Hold the turn to write. Raises ApiError, 429, if too many wait."""
        return self._turns.one()

    async def replace(self, source: str, passages: Sequence[Passage]) -> Replaced:
        """Store passages in place of those of their source.

        Raises:
            ApiError: 409 if another process writes, 422 for a column of another type.
        """

        def replaced(generation: Generation, retriever: SharedRetriever) -> Replaced:
            _check_columns(generation, passages)
            new = column_types(passages)
            if new.keys() - generation.store.columns.keys():
                generation.extend_columns(new)
            return replace_document(
                generation.store, source, passages, lambda texts: _encode(retriever, texts)
            )

        return await anyio.to_thread.run_sync(self._write, replaced)

    async def delete(self, document: str | None, source: str | None) -> int:
        """Delete a document by its id or source; return the number of its passages."""

        def deleted(generation: Generation, _: SharedRetriever) -> int:
            store = generation.store
            ids = passages_of(store, document) if document is not None else []
            ids += passages_from(store, source) if source is not None else []
            return store.delete(ids) if ids else 0

        return await anyio.to_thread.run_sync(self._write, deleted)

    def _write(self, change: Callable[[Generation, SharedRetriever], T]) -> T:
        served = self.service.served
        with _claimed(served.folder.path), _explained():
            served.refresh()  # another process may have switched to another generation
            generation, current = served.folder.current(), served.current
            if not current.generation.description.made_like(generation.description):
                raise ApiError(
                    503, "the index has changed and can't be served; the server's log says why"
                )
            done = change(generation, current.retriever)
            generation.optimise(in_use=True)
        served.refresh()
        return done


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Hold the index, as `dalm index` does. Raises ApiError, 409, if another process holds it."""
    claim = artifacts.claim(path)
    try:
        claim.__enter__()
    except UserError as error:
        if error.__cause__ is not None:
            raise _unwritable(error) from error
        raise ApiError(
            409,
            "another process is writing to the index; try again later",
            code="index_busy",
            headers={"Retry-After": "10"},
        ) from None
    try:
        yield
    finally:
        claim.__exit__(None, None, None)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise _unwritable(error) from error


def _unwritable(error: UserError) -> ApiError:
    logger.error("documents  the index can't be written: %s", error)
    return ApiError(503, "the index can't be written now; the server's log says why")


def _encode(retriever: SharedRetriever, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
    vectors = []
    for start in range(0, len(texts), BLOCK):
        vectors.append(retriever.encode_passages(texts[start : start + BLOCK]).cpu())
        time.sleep(0)  # another thread may wait for the retriever
    return torch.cat(vectors)


def _check_columns(generation: Generation, passages: Sequence[Passage]) -> None:
    """Refuse columns with names of ours, values of another type than theirs, and too many."""
    extra, columns = passages[0].extra, generation.store.columns
    if taken := sorted(extra.keys() & RESERVED):
        raise invalid(f"every passage has a {taken[0]} of its own; rename the column", "metadata")
    if len(columns.keys() | extra.keys()) > MOST_COLUMNS:
        raise ApiError(422, f"an index has at most {MOST_COLUMNS} columns", param="metadata")
    kept = values_of(passages[0], columns)
    for name, value in extra.items():
        if (
            name in columns
            and value is not None
            and (kept[name] is None or (columns[name] is str and not isinstance(value, str)))
        ):
            raise ApiError(
                422,
                f"the column {name!r} holds {KINDS[columns[name]]}, not {value!r:.60}",
                param="metadata",
            )
