"""Texts to write like: folders, files and tables in, distinct documents out."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from dalm.errors import UserError
from dalm.ingest.discovery import find_files
from dalm.ingest.document import Document, File
from dalm.ingest.loaders import loader_of, read_documents
from dalm.ingest.loaders.loader import LoaderOptions
from dalm.ingest.loaders.table_cells import find_columns
from dalm.ingest.skipped import Skipped
from dalm.io.cell_values import texts_of
from dalm.io.splits import split_by_document
from dalm.io.tables import read_table
from dalm.progress import track
from dalm.records import Example, Passage

logger = logging.getLogger(__name__)

NAMED = 5
"""Skipped files that are named on the terminal."""
SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")
"""What tells a saved dataset from a folder of documents."""


def read_texts(
    source: str, *, text_column: str | None = None, title_column: str | None = None
) -> list[Passage]:
    """Read the distinct texts (by id) of a source, in its order.

    A source is a folder of documents or one of them (whatever `dalm passages` reads), a table with
    a column of texts, a saved dataset or a name on the hub. What can't be read is named and passed
    over.

    Raises UserError when nothing can be read, or there is no text.
    """
    reading = LoaderOptions(text_column=text_column, title_column=title_column)
    path = Path(source).expanduser()
    unread: list[Skipped] = []
    of_files = _holds_documents(path)
    found = _of_files(source, reading, unread) if of_files else _of_table(source, reading)
    distinct: dict[str, Passage] = {}
    again = 0
    for text, title in found:
        if text.strip():
            passage = Passage.of(text, title)
            again += passage.id in distinct
            distinct.setdefault(passage.id, passage)
    _report(source, unread, again)
    if not distinct:
        reason = f": {unread[0].source}: {unread[0].reason}" if unread else ""
        raise UserError(f"{source} holds no text{reason or '; name texts to train on'}")
    return list(distinct.values())


def _holds_documents(path: Path) -> bool:
    if path.is_dir():
        return not any((path / name).exists() for name in SAVED)
    return path.is_file() and loader_of(path) is not None


def _of_files(
    source: str, reading: LoaderOptions, unread: list[Skipped]
) -> Iterator[tuple[str, str]]:
    files, not_read = find_files([source])
    unread += not_read
    for file in track(files, len(files), "texts", "file"):
        for document in _documents(file, reading, unread):
            yield document.text[document.begin :].strip(), document.title


def _documents(file: File, reading: LoaderOptions, unread: list[Skipped]) -> Iterator[Document]:
    for document in read_documents(file, reading):
        if isinstance(document, Skipped):
            unread.append(document)
        else:
            yield document


def _of_table(source: str, reading: LoaderOptions) -> Iterator[tuple[str, str]]:
    table = read_table(source)
    text, title = find_columns(list(table.columns), reading)
    texts = texts_of(table, text)
    yield from zip(texts, texts_of(table, title) if title else [""] * len(texts), strict=True)


def _report(source: str, unread: Sequence[Skipped], again: int) -> None:
    for each in unread[:NAMED]:
        logger.warning("unread     %s: %s", each.source, each.reason)
    if len(unread) > NAMED:
        logger.warning("unread     %d more in %s", len(unread) - NAMED, source)
    if again:
        logger.info("texts      %d met once more in %s, left out", again, source)


def hold_out(
    texts: Sequence[Passage], share: float, most_bytes: int, seed: int
) -> tuple[list[Passage], list[Passage]]:
    """Split texts into those to train on and those to measure on, by document.

    A document is what a title holds together (`splits.split_by_document`), so that no part of one
    stands on both sides. The share is lowered to what holds about `most_bytes`.

    Raises UserError when there is one document alone.
    """
    size = sum(len(text.text.encode()) for text in texts)
    share = min(share, most_bytes / max(size, 1))
    examples = [Example("", passage=text) for text in texts]
    sides = [
        [example.passage for example in side if example.passage]
        for side in split_by_document(examples, share, seed)
    ]
    if not sides[1]:
        raise UserError(
            "the texts are one document, so that none can be held out to measure on; cut it with "
            "dalm passages, or name other texts with --held-out"
        )
    return sides[0], sides[1]
