"""Define what a loader is: the kind of file it reads, its load function, options and errors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dalm.errors import UserError
from dalm.ingest.document import Document
from dalm.ingest.skipped import Skipped

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """What a file doesn't say about itself, and how large it may be."""

    text_column: str | None = None
    title_column: str | None = None
    encoding: str = "utf-8"
    max_bytes: int = 64 * MEGABYTE


LoadDocument = Callable[[bytes, str, LoaderOptions], Document]
LoadRows = Callable[[Path, str, LoaderOptions], Iterator[Document | Skipped]]


@dataclass(frozen=True, slots=True)
class Loader:
    """A kind of file and the function that reads it; either `load` or `load_rows` is given.

    `load(data, source, options)` turns a file's bytes into one document.
    `load_rows(path, source, options)` yields a document for each row of a table of any length.
    Both raise UnreadableError, with the reason and the remedy, for a file that can't be read.
    """

    name: str
    label: str
    """What it is called in help and errors."""
    extensions: tuple[str, ...]
    """Lower case, with the dot."""
    load: LoadDocument | None = None
    load_rows: LoadRows | None = None
    extra: str | None = None
    """The optional dependencies it needs: pip install "indomain[EXTRA]"."""

    def __post_init__(self) -> None:
        """Check that there is one load function."""
        assert (self.load is None) != (self.load_rows is None), self.name


class UnreadableError(UserError):
    """Report why a file can't be read, and the remedy; the run goes on without it."""


def check_text(text: str) -> str:
    """Return a text if it is valid Unicode.

    Raises:
        UnreadableError: an unpaired surrogate, as broken JSON escapes leave it.
    """
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        surrogate = ascii(error.object[error.start])
        raise UnreadableError(f"{surrogate} is an unpaired surrogate; remove it") from None
    return text


def too_large(limit: int, what: str = "the file") -> UnreadableError:
    """Return the error for something larger than `limit` bytes."""
    return UnreadableError(
        f"{what} is over {limit / MEGABYTE:g} MB; split it, or raise --max-megabytes"
    )
