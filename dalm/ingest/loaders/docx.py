"""Load Word files (docx): paragraphs, headings and notes, straight from their XML."""

import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from xml.parsers import expat

from dalm.ingest.loaders.loader import Document, Heading, Loader, LoaderOptions
from dalm.ingest.loaders.text import HEADING_LENGTH
from dalm.io.text_lines import UnreadableError, too_large

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


def load_docx(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a Word file's paragraphs, notes last; headings are the paragraphs of heading styles.

    Raises:
        UnreadableError: not a Word file, encrypted, broken, or too large once unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = _unpack(archive, options.max_bytes)
    except BROKEN as error:
        raise UnreadableError(f"not a Word file, or truncated ({error}); save it again") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown compression
        raise UnreadableError(
            f"could not be unpacked ({error}); save it without a password"
        ) from error
    if BODY not in parts:
        raise UnreadableError(f"not a Word file: there is no {BODY} in it; save it again as .docx")
    body = _Body(_heading_levels(parts.get(STYLES, b"")))
    for name in (BODY, *NOTES):
        if name in parts:
            _parse(parts[name], body.start, body.end, body.data)
    title = _title(parts.get(PROPERTIES, b"")) or body.title
    return Document("".join(body.parts), title, source, tuple(body.headings))


def _unpack(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, bytes]:
    """Unpack the parts that are read, counting bytes: the size in an archive's header can lie."""
    parts, bytes_left = {}, max_bytes
    names = set(archive.namelist())
    for name in (BODY, STYLES, PROPERTIES, *NOTES):
        if name not in names:
            continue
        with archive.open(name) as packed:
            parts[name] = packed.read(bytes_left + 1)
        bytes_left -= len(parts[name])
        if bytes_left < 0:
            raise too_large(max_bytes, "its unpacked text")
    return parts


def _parse(
    xml: bytes, start: Start, end: Callable[[str], None], data: Callable[[str], None]
) -> None:
    """Parse an XML part; a DOCTYPE is refused, since its entities can expand without bound."""

    def doctype(*_: object) -> None:
        raise UnreadableError(
            "its XML has a DOCTYPE, which Word never writes; save it again as .docx"
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


def _local_name(tag: str) -> str:
    """Return a tag's name if it is in the WordprocessingML namespace."""
    namespace, _, name = tag.rpartition(" ")
    return name if namespace in (W, STRICT) else ""


def _val(attributes: dict[str, str]) -> str:
    return next((v for name, v in attributes.items() if name.rpartition(" ")[2] == "val"), "")


def _heading_levels(styles: bytes) -> dict[str, int]:
    """Return the levels of heading styles by id; the ids depend on the language of Word."""
    levels = {f"Heading{level}": level for level in range(1, 10)} | {"Title": 1}
    style = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal style
        match _local_name(tag):
            case "style":
                named = (v for n, v in attributes.items() if n.rpartition(" ")[2] == "styleId")
                style = next(named, "")
            case "name" if found := HEADING_STYLE.fullmatch(_val(attributes)):
                levels[style] = int(found.group(1))
            case "name" if _val(attributes).lower() == "title":
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


class _Body:
    """Collect paragraphs and headings from a parser's events."""

    def __init__(self, levels: dict[str, int]) -> None:
        self.levels = levels
        self.parts: list[str] = []
        self.length = 0
        self.headings: list[Heading] = []
        self.title = ""
        self.paragraph: list[str] = []
        self.level = 0
        self.in_text = False
        self.fallback_depth = 0  # a fallback repeats content for older programs

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag.endswith(" Fallback"):
            self.fallback_depth += 1
        match _local_name(tag):
            case "p":
                self._flush()
            case "pStyle":
                self.level = self.levels.get(_val(attributes), 0)
            case "t":
                self.in_text = not self.fallback_depth
            case "tab":
                self.paragraph.append(" ")
            case "br" | "cr":
                self.paragraph.append("\n")
            case "noBreakHyphen":
                self.paragraph.append("-")

    def end(self, tag: str) -> None:
        if tag.endswith(" Fallback"):
            self.fallback_depth -= 1
        match _local_name(tag):
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
        if level and len(text) <= HEADING_LENGTH:
            heading = " ".join(text.split())
            self.headings.append(Heading(self.length, self.length + len(text), level, heading))
            self.title = self.title or (heading if level == 1 else "")
        self.parts.append(text)
        self.length += len(text)


DOCX = Loader("docx", "docx", (".docx",), load_docx)
