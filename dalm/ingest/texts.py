"""Read the texts that a generator is pretrained on, and hold some of them out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dalm.config.shared import HtmlText
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.ingest.loaders import find_files, has_several_tables, read_documents
from dalm.ingest.loaders.loader import LoaderOptions, Skipped
from dalm.ingest.unread import unread_parts
from dalm.io.cell_values import CellError, cell_text, values_at
from dalm.io.columns import column_for, find_text_columns
from dalm.io.splits import split_by_document
from dalm.io.tables import NAMED, read_table
from dalm.io.text_encoding import check_encoding
from dalm.progress import track
from dalm.records import Example, Passage

logger = logging.getLogger(__name__)

SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")
"""Files by which a saved dataset is recognised among folders."""


def read_texts(
    source: str,
    *,
    text_column: str | None = None,
    title_column: str | None = None,
    encoding: str | None = None,
    html: HtmlText = "main",
) -> list[Passage]:
    """Read the distinct texts (by id) of a source, in its order.

    A source is a folder of documents or one of them (whatever `dalm passages` reads), a table with
    a column of texts, a saved dataset or a name on the hub. What can't be read is named and passed
    over. Tables and plain texts are in `encoding`, by default UTF-8.

    Raises UserError when nothing can be read, or there is no text.
    """
    check_encoding(encoding)
    options = LoaderOptions(text_column, title_column, encoding or "utf-8", html=html)
    path = user_path(source)
    unread: list[Skipped] = []
    is_files = path.is_file() or (source.strip() and _is_folder_of_documents(path))
    found = (_of_files if is_files else _of_dataset)(source, options, unread)
    distinct: dict[str, Passage] = {}
    repeated = 0
    for text, title in found:
        if text.strip():
            passage = Passage.of(text, title)
            repeated += passage.id in distinct
            distinct.setdefault(passage.id, passage)
    _report(source, unread, repeated)
    if not distinct:
        reason = f": {unread[0].source}: {unread[0].reason}" if unread else ""
        raise UserError(f"{source} holds no text{reason or '; name texts to train on'}")
    return list(distinct.values())


def _is_folder_of_documents(path: Path) -> bool:
    return path.is_dir() and not any((path / name).exists() for name in SAVED)


def _of_files(
    source: str, options: LoaderOptions, unread: list[Skipped]
) -> Iterator[tuple[str, str]]:
    files, not_read = find_files([source])
    unread += not_read
    options = replace(options, several_tables=has_several_tables(files))
    for file in track(files, len(files), "texts", "files"):
        for document in read_documents(file, options):
            if isinstance(document, Skipped):
                unread.append(document)
            else:
                unread += unread_parts(document)
                yield document.excerpt(document.begin, len(document.text)).strip(), document.title


def _of_dataset(
    source: str, options: LoaderOptions, unread: list[Skipped]
) -> Iterator[tuple[str, str]]:
    table = read_table(source)
    named = (column_for(each, source) for each in (options.text_column, options.title_column))
    text, title = find_text_columns(table.columns, *named)
    for row, record in enumerate(table.records([text, title] if title else [text])):
        for cell, name in values_at(record, text, title):
            try:
                yield cell_text(cell), cell_text(name)
            except CellError as error:
                unread.append(Skipped(f"{source}, {table.place(row)}", str(error)))


def _report(source: str, unread: Sequence[Skipped], repeated: int) -> None:
    for each in unread[:NAMED]:
        logger.warning("unread     %s: %s", each.source, each.reason)
    if len(unread) > NAMED:
        logger.warning("unread     %d more in %s", len(unread) - NAMED, source)
    if repeated:
        logger.info("texts      %d repeated in %s, left out", repeated, source)


def hold_out(
    texts: Sequence[Passage], fraction: float, max_bytes: int, seed: int
) -> tuple[list[Passage], list[Passage]]:
    """Split texts into those to train on and those to measure on, by document.

    Texts with the same title are one document (`splits.split_by_document`), so that no document is
    on both sides. The fraction of documents is lowered to one that has about `max_bytes`.

    Raises UserError when there is only one document.
    """
    size = sum(len(text.text.encode()) for text in texts)
    fraction = min(fraction, max_bytes / max(size, 1))
    examples = [Example("", passage=text) for text in texts]
    sides = [
        [example.passage for example in side if example.passage]
        for side in split_by_document(examples, fraction, seed)
    ]
    if not sides[1]:
        raise UserError(
            "the texts are one document, so none can be held out to measure on; cut it with "
            "dalm passages, or name other texts with --held-out"
        )
    return sides[0], sides[1]
