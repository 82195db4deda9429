"""Remember the passages that a table of questions was made from, for the evaluation to search."""

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from dalm import artifacts, file_reading
from dalm.config import PairColumns
from dalm.file_reading import user_path

logger = logging.getLogger(__name__)

FILE = "passages.json"
"""Beside the tables that `dalm qa-gen` writes."""


@dataclass(frozen=True, kw_only=True)
class PassageSource:
    """A file of passages, or a name on the hub: where it is, its content, and how it is read."""

    tables: list[str]
    """The files and folders of questions that were made from it."""
    name: str
    """As it was named to `dalm qa-gen`."""
    relative: str | None = None
    """The path from the folder of the tables; None: no file of this machine."""
    digest: str | None = None
    """A hash of the file's bytes."""
    passage_column: str = "Passage"
    title_column: str = "Title"
    encoding: str | None = None

    def columns(self, prepend_title: bool) -> PairColumns:
        """Return how its columns are read."""
        return PairColumns(
            passage_column=self.passage_column,
            title_column=self.title_column,
            encoding=self.encoding,
            prepend_title=prepend_title,
        )


def remember(
    staging: Path, folder: Path, tables: Iterable[str], source: str, columns: PairColumns
) -> None:
    """Write beside the tables of `folder`, into `staging`, what they were made from."""
    path = user_path(source)
    there = path.exists()
    made = PassageSource(
        tables=sorted(tables),
        name=source,
        relative=os.path.relpath(path.resolve(), folder.resolve()) if there else None,
        digest=_digest(path),
        passage_column=columns.passage_column,
        title_column=columns.title_column,
        encoding=columns.encoding,
    )
    artifacts.write_json(staging / FILE, asdict(made))


def source_of(table: str) -> PassageSource | None:
    """Return what a table of questions was made from, if that is known."""
    path = user_path(table)
    file = path.parent / FILE
    if not file.is_file():
        return None
    found = file_reading.read_record(file, PassageSource, "make the questions again")
    return found if path.name in found.tables else None


def passages_of(table: str, source: PassageSource) -> str | None:
    """Return where the passages are that a table was made from; None, and a warning: gone.

    Passages that have changed since are searched as they are now, with a warning.
    """
    if source.relative is None:
        return source.name
    folder = user_path(table).parent
    places = (folder / source.relative, user_path(source.name))
    path = next((place for place in places if place.exists()), None)
    if path is None:
        logger.warning(
            "%s, which %s was made from, is gone: name it with --passages", source.name, table
        )
        return None
    if source.digest is not None and _digest(path) != source.digest:
        logger.warning(
            "%s has changed since %s was made from it; the questions were filtered by what it held",
            *(path, table),
        )
    return os.path.relpath(path) if _is_below(path) else str(path)


def _is_below(path: Path) -> bool:
    return path.resolve().is_relative_to(Path.cwd())


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
