"""Read the passages of an index: from tables of passages, or from documents that are split.

They are collected in a file, so that a million of them don't have to be in memory.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from dalm import artifacts, progress
from dalm.config import Index, PairColumns, Passages
from dalm.config.data import DocumentReading, PassageLengths
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.file_reading import read_jsonl, user_path
from dalm.ingest.ingestion import check_settings, from_json
from dalm.ingest.loaders import find_files
from dalm.ingest.loaders.loader import Skipped
from dalm.ingest.output_files import SAME_OPTIONS
from dalm.ingest.passage_writer import PassageWriter, write_passages
from dalm.ingest.unread import check_all_read, log_unread, write_unread
from dalm.io.columns import column_for
from dalm.io.examples import PassageFile
from dalm.io.table_files import READERS, kind
from dalm.records import Passage
from dalm.retrieval.stored_values import column_types

logger = logging.getLogger(__name__)

UNREAD = "unread.tsv"
WITH_TABLES = ("text_column", "title_column", "encoding", "trust_remote_code", "strict")
"""Options of splitting documents that have an effect on tables, or on the retriever."""


@dataclass(slots=True)
class CollectedPassages:
    """The distinct passages of an index's sources, in a file; to be gone through again and again.

    `columns` are the types of their further columns.
    """

    file: Path
    count: int = 0
    columns: dict[str, type] = field(default_factory=dict)
    chunking: dict[str, Any] = field(default_factory=dict)
    """How documents were split; empty without documents."""
    unread: list[Skipped] = field(default_factory=list)
    """Documents that couldn't be read, and parts of them."""
    unread_rows: int = 0
    """Rows of tables that couldn't be read."""

    @property
    def unread_file(self) -> Path:
        """Return the list of the documents that couldn't be read, beside the index."""
        return self.file.parent.with_name(UNREAD)

    def check_all_read(self) -> None:
        """Raise UserError, for --strict, if anything could not be read."""
        check_all_read(self.unread, self.unread_file)
        if self.unread_rows:
            raise UserError(
                f"--strict: {self.unread_rows} rows of tables could not be read; the others are "
                "in the index"
            )

    def __len__(self) -> int:
        """Return their number."""
        return self.count

    def __iter__(self) -> Iterator[Passage]:
        """Yield them in the order of the sources."""
        if self.count:
            yield from (Passage.from_dict(record) for _, record in read_jsonl(self.file))


@contextmanager
def collected(
    sources: Sequence[str], settings: Index, index_dir: Path
) -> Iterator[CollectedPassages]:
    """Yield the passages of tables and documents, while the block runs.

    What couldn't be read of the documents is listed in `unread.tsv` beside the index. A passage
    that is there twice has the provenance and the further columns of its first row; it is said in
    how many others these are different.

    Raises:
        UserError: a source that doesn't exist, or holds no passages.
    """
    folder = index_dir / ".reading"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        with artifacts.explained(index_dir):
            folder.mkdir(parents=True)
            yield _collect(sources, settings, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _collect(sources: Sequence[str], settings: Index, folder: Path) -> CollectedPassages:
    found = CollectedPassages(folder / "passages.jsonl")
    documents = [each for each in sources if not _is_table(each)]
    if not documents:
        _check_no_splitting(settings)
    tables = [each for each in sources if _is_table(each)]
    with found.file.open("w", encoding="utf-8", newline="\n") as out:
        writer = _DistinctWriter(out)

        def written() -> Iterator[Passage]:
            for table in tables:
                rows = PassageFile(user_path(table), _columns(settings, table))
                yield from writer.write(rows)
                found.unread_rows += rows.unread
            if documents:
                yield from writer.write(_of_documents(documents, settings, found))

        with progress.waiting("reading passages"):
            found.columns = column_types(written())
    writer.log()
    found.count = len(writer.origins)
    return found


def _columns(settings: Index, table: str) -> PairColumns:
    return PairColumns(
        passage_column=column_for(settings.text_column, table) or "Passage",
        title_column=column_for(settings.title_column, table) or "Title",
        query_column=settings.query_column,
        encoding=None if settings.encoding == "utf-8" else settings.encoding,
    )


class _DistinctWriter:
    """Write the first passage of each id, and count those that say something else of their text."""

    def __init__(self, out: IO[str]) -> None:
        self.out = out
        self.origins: dict[str, int] = {}
        self.others = 0
        self.example = ""

    def write(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """Write passages, and yield those that are written."""
        for passage in passages:
            line = json.dumps(passage.to_dict(), ensure_ascii=False, default=str)
            origin = hash(json.dumps(passage.provenance(), sort_keys=True, default=str))
            if passage.id not in self.origins:
                self.origins[passage.id] = origin
                self.out.write(line + "\n")
                yield passage
            elif self.origins[passage.id] != origin:
                self.others += 1
                self.example = self.example or " ".join(passage.text.split())[:60]

    def log(self) -> None:
        """Say how many rows are left out that differ in what conditions look at."""
        if self.others:
            logger.warning(
                "left out   %d rows with the text of another row and another source, page or "
                "further column, such as %r: one text is one passage, with what its first row says",
                *(self.others, self.example),
            )


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


def _of_documents(
    sources: Sequence[str], settings: Index, found: CollectedPassages
) -> Iterator[Passage]:
    """Split documents into passages, by way of a file, as `dalm passages` writes it."""
    output = found.file.with_name("documents.jsonl")
    shared = {f.name for f in fields(Passages)} & {f.name for f in fields(settings)}
    options = {name: getattr(settings, name) for name in shared}
    chunking = Passages(**options, output=str(output))
    check_settings(chunking)
    for source in sources:  # an empty folder among them may be one that isn't mounted
        if not any(find_files([source])):
            raise UserError(f"no files in {source}; name a folder with documents")
    files, not_loaded = find_files(sources)
    with output.open("w+b") as out:
        writer = PassageWriter(out, chunking.near_duplicates, chunking.keep_contained)
        found.unread = write_passages(writer, files, not_loaded, chunking)
    write_unread(found.unread_file, found.unread)
    log_unread(found.unread, found.unread_file)
    writer.counts.log()
    found.chunking = {name: getattr(chunking, name) for name in SAME_OPTIONS}
    with output.open("rb") as lines:
        yield from map(from_json, lines)
