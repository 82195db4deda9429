"""What a reader makes of a file: documents, and what could not be read."""

import hashlib
from dataclasses import dataclass

from dalm.errors import UserError

MEGABYTE = 1_000_000


class UnreadableError(UserError):
    """Say why a file is no document, and the remedy; the run goes on without it."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A file, or a row of one, that was left out, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at `text[start:end]` of its document; level 1 is the highest."""

    start: int
    end: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its parts.

    `source` names the file (and row) it was found in. `pages` are the offsets at which pages
    begin; empty without pages. What stands before `begin` belongs to no passage: front matter.
    """

    text: str
    title: str
    source: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()
    begin: int = 0

    @property
    def id(self) -> str:
        """Return the content hash: 16 hexadecimal digits (64 bits) of the text to the letter."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read: what no file says of itself."""

    text_column: str | None = None
    title_column: str | None = None
    encoding: str = "utf-8"
    max_bytes: int = 64 * MEGABYTE


def check_text(text: str) -> str:
    """Return a text that can be written down again.

    Raises:
        UnreadableError: half a surrogate pair, as broken JSON escapes leave them.
    """
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise UnreadableError(f"{half} is half a character; remove it") from None
    return text


def too_large(limit: int, what: str = "the file") -> UnreadableError:
    """Return the refusal of something larger than `limit` bytes."""
    return UnreadableError(
        f"{what} is over {limit / MEGABYTE:g} MB; split it, or raise --max-megabytes"
    )
