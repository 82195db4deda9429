"""Load plain text and Markdown."""

import re
from collections.abc import Iterator

from dalm.ingest.loaders.loader import Document, Heading, Loader, LoaderOptions
from dalm.io.text_lines import (
    NUL_BYTE,
    UnreadableError,
    marked_encoding,
    suggest_encodings,
    undecodable,
)

CODE_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ATX_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
SETEXT_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-{2,})[ \t]*$")
FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE)
FRONT_MATTER_LENGTH = 20_000  # characters; a longer one is no front matter
FRONT_MATTER_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
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
    """Load a plain text."""
    return Document(decode(data, options.encoding), "", source)


def load_markdown(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load Markdown, its markup included; front matter may give the title and is in no passage."""
    text = decode(data, options.encoding)
    front = FRONT_MATTER.match(text, 0, min(len(text), FRONT_MATTER_LENGTH))
    begin = front.end() if front else 0
    headings = tuple(_headings(text, begin))
    named = FRONT_MATTER_TITLE.search(front.group(1)) if front else None
    first = next((heading.text for heading in headings if heading.level == 1), "")
    title = named.group(1).strip("\"'") if named else first
    return Document(text, title, source, headings, begin=begin)


def _headings(text: str, begin: int) -> Iterator[Heading]:
    """Find ATX (`# Title`) and setext (underlined) headings outside of fenced code."""
    fence, offset, previous = "", begin, (begin, "")
    for line in text[begin:].splitlines(keepends=True):
        bare, line_start = line.rstrip("\n"), offset
        offset += len(line)
        marker = CODE_FENCE.match(bare)
        if marker and (not fence or marker.group(1).startswith(fence)):
            fence, previous = ("" if fence else marker.group(1)), (offset, "")
        elif not fence:
            start, title, level = _heading(bare, line_start, previous)
            if title and len(title) <= HEADING_LENGTH:
                yield Heading(start, line_start + len(bare), level, title)
            previous = (offset, "") if level else (line_start, bare)


def _heading(line: str, line_start: int, previous: tuple[int, str]) -> tuple[int, str, int]:
    """Return a heading's start, text and level; level 0 if the line ends none."""
    if atx := ATX_HEADING.match(line):
        return line_start, (atx.group(2) or "").strip(), len(atx.group(1))
    previous_start, text = previous
    if text.strip() and (underline := SETEXT_UNDERLINE.match(line)):
        return previous_start, text.strip(), 1 if underline.group(1) else 2
    return line_start, "", 0


TEXT = Loader("text", "txt", (".txt", ".text"), load_text)
MARKDOWN = Loader("markdown", "Markdown", (".md", ".markdown"), load_markdown)
