"""Word files (docx): bytes in, a document out."""

import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import PurePath
from xml.parsers import expat

from dalm.ingest.document import Document, Heading, UnreadableError, too_large
from dalm.ingest.loaders.text import LONGEST_HEADING

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
BODY, STYLES, PROPERTIES = "word/document.xml", "word/styles.xml", "docProps/core.xml"
NOTES = ("word/footnotes.xml", "word/endnotes.xml")
HEADING_STYLE = re.compile(r"heading (\d)", re.IGNORECASE)
BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
)
Start = Callable[[str, dict[str, str]], None]


def read_docx(data: bytes, source: str, max_bytes: int) -> Document:
    """Read a Word file's paragraphs, notes last; headings are those of its heading styles.

    Raises:
        UnreadableError: no Word file, encrypted, broken, or larger than `max_bytes` once unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = _unpacked(archive, max_bytes)
    except BROKEN as error:
        raise UnreadableError(f"no Word file, or cut short ({error}); save it again") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, a compression unknown here
        raise UnreadableError(
            f"could not be unpacked ({error}); save it without a password"
        ) from error
    if BODY not in parts:
        raise UnreadableError(f"no Word file: there is no {BODY} in it; save it again as .docx")
    levels = _heading_levels(parts.get(STYLES, b""))
    story = _Story(levels)
    for name in (BODY, *NOTES):
        if name in parts:
            _parse(parts[name], story.start, story.end, story.data)
    title = _title(parts.get(PROPERTIES, b"")) or story.title or PurePath(source).stem
    return Document("".join(story.parts), title, source, tuple(story.headings))


def _unpacked(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, bytes]:
    """Unpack the parts that are read, and no more of them than may be: a size told can be a lie."""
    parts, room = {}, max_bytes
    names = set(archive.namelist())
    for name in (BODY, STYLES, PROPERTIES, *NOTES):
        if name not in names:
            continue
        with archive.open(name) as packed:
            parts[name] = packed.read(room + 1)
        room -= len(parts[name])
        if room < 0:
            raise too_large(max_bytes, "its unpacked text")
    return parts


def _parse(
    xml: bytes, start: Start, end: Callable[[str], None], data: Callable[[str], None]
) -> None:
    """Walk through an XML part; a DOCTYPE is refused, for entities are how XML grows to a bomb."""

    def doctype(*_: object) -> None:
        raise UnreadableError(
            "its XML has a DOCTYPE, which no Word file has; save it again as .docx"
        )

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise UnreadableError(f"broken XML inside ({error}); save it again") from error


def _word(tag: str) -> str:
    """Return a tag's name if it is of Word's own vocabulary."""
    space, _, name = tag.rpartition(" ")
    return name if space in (W, STRICT) else ""


def _value(attributes: dict[str, str]) -> str:
    return next((v for name, v in attributes.items() if name.rpartition(" ")[2] == "val"), "")


def _heading_levels(styles: bytes) -> dict[str, int]:
    """Return the levels of heading styles by their ids, which differ from language to language."""
    levels = {f"Heading{level}": level for level in range(1, 10)} | {"Title": 1}
    style = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal style
        match _word(tag):
            case "style":
                named = (v for n, v in attributes.items() if n.rpartition(" ")[2] == "styleId")
                style = next(named, "")
            case "name" if found := HEADING_STYLE.fullmatch(_value(attributes)):
                levels[style] = int(found.group(1))
            case "name" if _value(attributes).lower() == "title":
                levels[style] = 1

    if styles:
        _parse(styles, start, lambda _: None, lambda _: None)
    return levels


def _title(properties: bytes) -> str:
    found: list[str] = []
    inside = False

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal inside
        inside = tag.endswith(" title")

    def end(_: str) -> None:
        nonlocal inside
        inside = False

    if properties:
        _parse(properties, start, end, lambda text: found.append(text) if inside else None)
    return " ".join("".join(found).split())


class _Story:
    """Gather paragraphs while the parser walks through a part."""

    def __init__(self, levels: dict[str, int]) -> None:
        self.levels = levels
        self.parts: list[str] = []
        self.length = 0
        self.headings: list[Heading] = []
        self.title = ""
        self.paragraph: list[str] = []
        self.level = 0
        self.in_text = False
        self.doubled = 0  # inside a fallback: the same content once more, for older programs

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag.endswith(" Fallback"):
            self.doubled += 1
        match _word(tag):
            case "p":
                self._flush()
            case "pStyle":
                self.level = self.levels.get(_value(attributes), 0)
            case "t":
                self.in_text = not self.doubled
            case "tab":
                self.paragraph.append(" ")
            case "br" | "cr":
                self.paragraph.append("\n")
            case "noBreakHyphen":
                self.paragraph.append("-")

    def end(self, tag: str) -> None:
        if tag.endswith(" Fallback"):
            self.doubled -= 1
        match _word(tag):
            case "t":
                self.in_text = False
            case "p":
                self._flush()

    def data(self, text: str) -> None:
        if self.in_text:
            self.paragraph.append(text)

    def _flush(self) -> None:
        text, level = "".join(self.paragraph).strip(), self.level
        self.paragraph, self.level = [], 0
        if not text:
            return
        if self.parts:
            self.parts.append("\n\n")
            self.length += 2
        if level and len(text) <= LONGEST_HEADING:
            heading = " ".join(text.split())
            self.headings.append(Heading(self.length, self.length + len(text), level, heading))
            self.title = self.title or (heading if level == 1 else "")
        self.parts.append(text)
        self.length += len(text)
