"""Load plain text."""

import re

from dalm.ingest.contents_lines import contents_lines, contents_lists
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.text_blocks import plain_blocks
from dalm.io.text_encoding import marked_encoding, suggest_encodings
from dalm.io.text_lines import (
    NUL_BYTE,
    UnreadableError,
    undecodable,
)

RULE_ALONE = re.compile(r"\n[^\S\n]*\n([^\S\n]*([-=*_~#])\2{9,}[^\S\n]*\n)(?=[^\S\n]*(?:\n|\Z))")
"""A line drawn between two empty ones."""
HEADING_LENGTH = 200  # characters; a longer line is a paragraph that only looks like a heading


def decode(data: bytes, encoding: str, errors: str = "strict") -> str:
    """Return the text with line ends as `\\n`; a byte order mark overrides `encoding`.

    Raises:
        UnreadableError: bytes of another encoding, or not text at all.
    """
    encoding = marked_encoding(data) or encoding
    try:
        text = data.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        line_start = error.object.rfind(b"\n", 0, error.start) + 1
        suggestion = suggest_encodings(error.object[line_start:])
        raise undecodable(line, error, encoding, suggestion) from None
    if "\0" in text:
        raise UnreadableError(NUL_BYTE)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def load_text(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a plain text; its tables and lists are cut between rows and items."""
    text = decode(data, options.encoding)
    document = Document(text, "", source, blocks=tuple(plain_blocks(text)))
    rules = (rule.span(1) for rule in RULE_ALONE.finditer(text))
    return document.without((*rules, *contents_lines(text), *contents_lists(text)))


TEXT = Loader("text", "txt", (".txt", ".text"), load_text)
