"""Load files and split them into passages, in order, in bounded memory."""

import json
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from dalm.config import Passages, check
from dalm.errors import UserError
from dalm.ingest.chunking import Chunker
from dalm.ingest.contained_documents import Sketch, sketches_of
from dalm.ingest.left_out import Place
from dalm.ingest.length_limit import LengthLimit, TokenLimit, WordLimit
from dalm.ingest.loaders import has_several_tables, loader_of, read_documents
from dalm.ingest.loaders.loader import Document, File, LoaderOptions, Skipped
from dalm.ingest.near_duplicates import Signatures, shingles_and_signatures
from dalm.ingest.unread import unread_parts
from dalm.io.text_encoding import check_encoding
from dalm.io.text_lines import MEGABYTE
from dalm.records import PROVENANCE, Passage
from dalm.scaling.pool import WorkerDiedError, check_pool, pool_of

BATCH_CHARACTERS, BATCH_ROWS = 1_000_000, 10_000  # of a table, at most


def check_settings(settings: Passages) -> None:
    """Refuse options that are out of range or without effect, and unknown encodings.

    Raises:
        UserError: names the option.
    """
    check(settings)
    limit = settings.max_tokens or settings.max_words
    if 2 * settings.overlap >= limit:
        raise UserError(f"--overlap {settings.overlap}: must be under half a passage, {limit}")
    if settings.max_tokens is None and settings.min_words > settings.max_words:
        raise UserError(
            f"--min-words {settings.min_words}: must be at most --max-words {settings.max_words}"
        )
    cpus = os.cpu_count() or 1
    if settings.processes > max(8, 4 * cpus):
        raise UserError(
            f"--processes {settings.processes}: this machine has {cpus} CPUs; a number up to that "
            "is fastest"
        )
    check_pool(settings)
    check_encoding(settings.encoding)
    if settings.keep_contained and settings.near_duplicates == 1:
        raise UserError(
            "--keep-contained has no effect with --near-duplicates 1, which keeps all but exact "
            "duplicates; leave one of them out"
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """A file to load, or some of a table's documents; `size` is its share of the file's bytes."""

    file: File
    documents: Iterable[Document | Skipped] | None
    size: int


@dataclass(slots=True)
class BatchResult:
    """A batch's passages as lines of JSON, with their ids and signatures, and its counts."""

    size: int
    ids: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    signatures: Signatures | None = None
    sketches: dict[str, Sketch] = field(default_factory=dict)
    documents: int = 0
    in_part: int = 0
    """Of these, documents of which something could not be read."""
    short: int = 0
    """Documents shorter than the shortest passage."""
    empty: int = 0
    """Rows without text."""
    unread: list[Skipped] = field(default_factory=list)


def ingest(files: Iterable[File], settings: Passages) -> Generator[BatchResult]:
    """Load and split files in a pool of workers; the passages don't depend on their number.

    Raises:
        UserError: the tokenizer can't be loaded, or a process died.
    """
    batches = make_batches(files, _loader_options(settings))
    try:
        yield from pool_of(settings).map(partial(Ingester, settings), batches)
    except WorkerDiedError as error:
        names = ", ".join(dict.fromkeys(batch.file.source for batch in error.items))
        raise UserError(
            f"a process died while reading {names or 'a file'}: out of memory, or a file that "
            "crashes its loader; try one process (--processes 1, no --ray), or leave the file out"
        ) from error


def _loader_options(settings: Passages) -> LoaderOptions:
    return LoaderOptions(
        text_column=settings.text_column,
        title_column=settings.title_column,
        encoding=settings.encoding,
        max_bytes=settings.max_megabytes * MEGABYTE,
        html=settings.html,
    )


def make_batches(files: Iterable[File], options: LoaderOptions) -> Iterator[Batch]:
    """Yield a batch for every file, and for every million characters of a table."""
    files = list(files)
    options = replace(options, several_tables=has_several_tables(files))
    for file in files:
        loader = loader_of(file.path)
        if loader is None or not loader.load_rows:
            yield Batch(file, None, file.size)
            continue
        bytes_left, documents, length = file.size, list[Document | Skipped](), 0
        for found in read_documents(file, options):
            documents.append(found)
            length += len(found.text) if isinstance(found, Document) else 0
            if length >= BATCH_CHARACTERS or len(documents) >= BATCH_ROWS:
                size = min(bytes_left, length)
                yield Batch(file, tuple(documents), size)
                bytes_left, documents, length = bytes_left - size, [], 0
        yield Batch(file, tuple(documents), bytes_left)


class Ingester:
    """Load and split batches."""

    def __init__(self, settings: Passages) -> None:
        limit: LengthLimit = WordLimit(settings.max_words)
        if settings.tokenizer is not None and settings.max_tokens is not None:
            limit = TokenLimit.from_pretrained(
                settings.tokenizer,
                settings.max_tokens,
                trust_remote_code=settings.trust_remote_code,
            )
        self.chunker = Chunker(limit, overlap=settings.overlap, min_words=settings.min_words)
        self.loader_options = _loader_options(settings)
        self.has_signatures = settings.near_duplicates < 1  # for the filter of near duplicates
        self.has_sketches = not settings.keep_contained

    def __call__(self, batch: Batch) -> BatchResult:
        """Load a batch's documents and split them."""
        result = BatchResult(batch.size)
        documents = batch.documents
        if documents is None:
            documents = read_documents(batch.file, self.loader_options)
        passages: list[Passage] = []
        for document in documents:
            if isinstance(document, Skipped):
                result.unread.append(document)
            elif not document.text.strip():
                result.empty += 1
            else:
                found = self.chunker.split(document)
                result.documents += 1
                result.in_part += bool(document.unread)
                result.unread += unread_parts(document)
                if not found:
                    result.short += 1
                    reason = f"shorter than --min-words {self.chunker.min_words}; lower that"
                    result.unread.append(
                        Skipped(document.source, reason, part=True, by_option=True)
                    )
                passages += found
        result.ids = [passage.id for passage in passages]
        result.places = [Place.of(passage) for passage in passages]
        result.lines = [to_json(passage) for passage in passages]
        if self.has_signatures:
            texts = [passage.text for passage in passages]
            triples, result.signatures = shingles_and_signatures(texts)
            if self.has_sketches:
                result.sketches = sketches_of(passages, triples)
        return result


def to_json(passage: Passage) -> bytes:
    """Return a passage as a line of JSON, with the column names that other commands expect."""
    columns = {"id": passage.id, "Title": passage.title, "Passage": passage.text}
    columns |= {name: getattr(passage, name) for name in PROVENANCE}
    return json.dumps(columns, ensure_ascii=False).encode() + b"\n"


def from_json(line: bytes) -> Passage:
    """Return the passage of a line.

    Raises ValueError, KeyError, TypeError or RecursionError for what is none.
    """
    row = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError(f"{type(row).__name__}, not an object")
    return Passage.from_dict(row | {"text": row.pop("Passage"), "title": row.pop("Title")})
