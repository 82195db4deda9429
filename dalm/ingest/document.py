"""Define what is loaded: files, and the documents with headings and pages found in them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class File:
    """A file to load; `source` is what passages call it: its path below the folder given."""

    path: Path
    source: str
    size: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at `text[start:end]` of its document; level 1 is the highest."""

    start: int
    end: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its structure.

    `source` names the file (and row) it was found in. `pages` are the offsets at which pages
    begin; empty without pages. Text before `begin` (front matter) is in no passage.
    """

    text: str
    title: str
    source: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()
    begin: int = 0

    @property
    def id(self) -> str:
        """Return the content hash: 16 hexadecimal digits (64 bits) of the exact text."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()
