"""Read the passages of an index: from tables of passages, or from documents that are split."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from dalm.config import Index, PairColumns, Passages
from dalm.config.data import DocumentReading, PassageLengths
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.ingest.ingestion import check_settings
from dalm.ingest.loaders import find_files
from dalm.ingest.passage_writer import PassageWriter, log_skipped, write_passages, write_skipped
from dalm.io.examples import read_passages
from dalm.io.table_files import READERS, kind
from dalm.records import Passage

logger = logging.getLogger(__name__)

UNREAD = "unread.tsv"
WITH_TABLES = ("text_column", "title_column", "encoding", "trust_remote_code")
"""Options of splitting documents that have an effect on tables, or on the retriever."""


def read(sources: Sequence[str], settings: Index, index_dir: Path) -> list[Passage]:
    """Return the passages of tables and documents.

    What couldn't be read of the documents is listed in `unread.tsv` beside the index.

    Raises:
        UserError: a source that doesn't exist, or holds no passages.
    """
    documents = [each for each in sources if not _is_table(each)]
    if not documents:
        _check_no_splitting(settings)
    tables = [each for each in sources if _is_table(each)]
    columns = PairColumns(
        passage_column=settings.text_column or "Passage",
        title_column=settings.title_column or "Title",
        query_column=settings.query_column,
        encoding=None if settings.encoding == "utf-8" else settings.encoding,
    )
    passages = [passage for table in tables for passage in read_passages(table, columns)]
    return passages + (_of_documents(documents, settings, index_dir) if documents else [])


def _check_no_splitting(settings: Index) -> None:
    """Refuse options of splitting documents where only tables of passages are read."""
    for option in (*fields(PassageLengths), *fields(DocumentReading)):
        given = getattr(settings, option.name) != option.default
        if given and option.name not in WITH_TABLES:
            raise UserError(
                f"{spelled(option.name)} has no effect on a table of passages; leave it out, or "
                "name documents"
            )


def _is_table(source: str) -> bool:
    path = user_path(source)
    return path.is_file() and kind(path) in READERS


def _of_documents(sources: Sequence[str], settings: Index, index_dir: Path) -> list[Passage]:
    """Split documents into passages, by way of a file, as `dalm passages` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "passages.jsonl"
        shared = {f.name for f in fields(Passages)} & {f.name for f in fields(settings)}
        options = {name: getattr(settings, name) for name in shared}
        chunking = Passages(**options, output=str(output))
        check_settings(chunking)
        files, skipped = find_files(sources)
        if not files and not skipped:
            raise UserError(f"no files in {', '.join(sources)}; name a folder with documents")
        with output.open("wb") as out:
            writer = PassageWriter(out, chunking.near_duplicates)
            skipped += write_passages(writer, files, chunking)
        writer.counts.require_documents(skipped)
        index_dir.mkdir(parents=True, exist_ok=True)
        write_skipped(index_dir / UNREAD, skipped)
        log_skipped(skipped, index_dir / UNREAD)
        writer.counts.log()
        return read_passages(output, PairColumns())
