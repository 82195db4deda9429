"""Plain text and Markdown: bytes in, a document out."""

import codecs
import re
from collections.abc import Iterator
from pathlib import PurePath

from dalm.ingest.document import Document, Heading, UnreadableError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HASHES = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
UNDERLINE = re.compile(r" {0,3}(?:(=+)|-{2,})[ \t]*$")
FRONT = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE)
FRONT_LENGTH = 20_000  # characters; a longer one is no front matter
FRONT_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
LONGEST_HEADING = 200  # characters: what is longer is a text that only looks like one


def decode(data: bytes, encoding: str) -> str:
    """Return the text with line ends as `\\n`; a byte order mark goes before `encoding`.

    Raises:
        UnreadableError: bytes of another encoding, or no text at all.
    """
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), encoding)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = error.start - data.rfind(b"\n", 0, error.start)
        raise UnreadableError(
            f"line {line}, byte {byte} ({data[error.start]:#04x}): not {encoding.upper()}; "
            "save it as UTF-8, or name its --encoding"
        ) from None
    if "\0" in text:
        raise UnreadableError("a NUL byte, so this is UTF-16 or no text at all; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(data: bytes, source: str, encoding: str) -> Document:
    """Read a plain text; its title is the file's name."""
    return Document(decode(data, encoding), PurePath(source).stem, source)


def read_markdown(data: bytes, source: str, encoding: str) -> Document:
    """Read Markdown, its marks as they stand; front matter gives a title and is no passage."""
    text = decode(data, encoding)
    front = FRONT.match(text, 0, min(len(text), FRONT_LENGTH))
    begin = front.end() if front else 0
    headings = tuple(_headings(text, begin))
    named = FRONT_TITLE.search(front.group(1)) if front else None
    first = next((heading.text for heading in headings if heading.level == 1), "")
    title = named.group(1).strip("\"'") if named else first
    return Document(text, title or PurePath(source).stem, source, headings, begin=begin)


def _headings(text: str, begin: int) -> Iterator[Heading]:
    """Find headings, hashed and underlined ones, outside of fenced code."""
    fence, place, above = "", begin, (begin, "")
    for line in text[begin:].splitlines(keepends=True):
        bare, here = line.rstrip("\n"), place
        place += len(line)
        mark = FENCE.match(bare)
        if mark and (not fence or mark.group(1).startswith(fence)):
            fence, above = ("" if fence else mark.group(1)), (place, "")
        elif not fence:
            start, found, level = _heading(bare, here, above)
            if found and len(found) <= LONGEST_HEADING:
                yield Heading(start, here + len(bare), level, found)
            above = (place, "") if level else (here, bare)


def _heading(line: str, here: int, above: tuple[int, str]) -> tuple[int, str, int]:
    """Return where a heading begins, its text and its level; level 0 if there is none."""
    if hashed := HASHES.match(line):
        return here, (hashed.group(2) or "").strip(), len(hashed.group(1))
    before, text = above
    if text.strip() and (under := UNDERLINE.match(line)):
        return before, text.strip(), 1 if under.group(1) else 2
    return here, "", 0
