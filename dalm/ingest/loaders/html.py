"""Load the visible text of HTML pages, with the encodings that browsers would use."""

import codecs
import re
from dataclasses import dataclass
from typing import Any

from dalm.ingest.loaders.loader import Document, Heading, Loader, LoaderOptions
from dalm.ingest.loaders.text import HEADING_LENGTH, decode
from dalm.io.text_lines import UnreadableError, marked_encoding

DECLARED_ENCODING = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?([\w.:-]+)""", re.I
)
HEAD_BYTES = 4096  # a declaration is near the beginning
UNSUPPORTED = ("replacement", "x-user-defined")
"""Encodings of webencodings that stand for labels whose text is not to be decoded."""
BLOCKS = frozenset(
    "address article aside blockquote body br caption center dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main menu "
    "nav ol option p pre section select summary table tbody td textarea tfoot th thead tr "
    "ul".split()
)
LINES = frozenset("br li dt dd tr option".split())
"""Blocks that are a line of a paragraph, not a paragraph of their own."""
CELLS = frozenset(("td", "th"))
GAPS = ("", " ", "\t", "\n", "\n\n")
"""White space between two texts, from the weakest to the strongest."""
INVISIBLE = frozenset(("script", "style"))
BOILERPLATE = frozenset("nav template svg math iframe noframes".split())
"""Left out, but kept when never closed: the parser closes it only at the end of the page."""
LEVELS = {f"h{level}": level for level in range(1, 7)}


def load_html(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load the visible text of a page: blocks as paragraphs, headings with their level.

    Scripts, styles, drawings and navigation are left out; an element that is never closed is
    kept. The encoding is that of the byte order mark, else the declared one, else the option's.

    Raises:
        UnreadableError: bytes of another encoding, or elements nested too deep to parse.
    """
    from lxml import etree

    text = decode(data, _declared_encoding(data) or options.encoding, "c1_controls")
    page = _VisibleText()
    # The parser needs no network and no entity file: HTML's entities are built in.
    parser = etree.HTMLParser(target=page, encoding="utf-8", no_network=True, huge_tree=True)
    if text.strip():
        etree.fromstring(text.encode(), parser)
    fatal = [e for e in parser.error_log if e.level == etree.ErrorLevels.FATAL]
    if fatal:
        raise UnreadableError(f"line {fatal[0].line}: {fatal[0].message.strip()}; is it HTML?")
    return page.document(source)


def _declared_encoding(data: bytes) -> str:
    """Return the codec for the encoding that a page declares, as browsers read the label.

    A label is not always the codec of the same name: latin1 means windows-1252. Labels that
    browsers don't know, but Python does (cp437), are read by Python's codec.
    """
    found = DECLARED_ENCODING.search(data[:HEAD_BYTES])
    if marked_encoding(data) or not found:
        return ""
    import webencodings

    label = found.group(1).decode()
    encoding = webencodings.lookup(label)
    try:
        known = encoding is not None and encoding.name not in UNSUPPORTED
        codec = encoding.codec_info if known else codecs.lookup(label)
    except LookupError:
        raise UnreadableError(
            f"its declared encoding {label!r} is unknown; save it as UTF-8"
        ) from None
    # A page that could be searched for its declaration isn't in UTF-16, whatever it declares.
    return "utf-8" if codec.name.startswith("utf-16") else str(codec.name)


def _decode_c1_control(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that the windows-125x codecs leave undefined to C1 controls, as browsers do."""
    if isinstance(error, UnicodeDecodeError) and error.encoding == "charmap":
        byte = error.object[error.start]
        if 0x80 <= byte < 0xA0:
            return chr(byte), error.start + 1
    raise error


codecs.register_error("c1_controls", _decode_c1_control)


@dataclass(frozen=True, slots=True)
class _Position:
    """How much text there was when an element began."""

    parts: int
    length: int
    headings: int


class _VisibleText:
    """Collect the visible text and headings from a parser's events."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.gap = ""  # white space due before the next text
        self.invisible = 0
        self.title: list[str] = []
        self.in_title = False
        self.pre = 0
        self.headings: list[Heading] = []
        self.open_heading: tuple[str, int, int] | None = None
        self.boilerplate: list[_Position] = []
        self.ended_boilerplate: _Position | None = None

    def start(self, tag: Any, _attributes: Any) -> None:
        self._drop_boilerplate()
        if tag in INVISIBLE:
            self.invisible += 1
        elif tag == "title" and not self.invisible:
            self.in_title = True
        if tag in BLOCKS:
            self._break(tag)
        if tag in LEVELS:
            self._close_heading()
            self.open_heading = (tag, self.length, len(self.parts))
        elif tag in BOILERPLATE:
            self.boilerplate.append(_Position(len(self.parts), self.length, len(self.headings)))
        self.pre += tag == "pre"

    def end(self, tag: Any) -> None:
        if tag in INVISIBLE:
            self.invisible = max(0, self.invisible - 1)
        elif tag == "title":
            self.in_title = False
        if self.open_heading and tag == self.open_heading[0]:
            self._close_heading()
        if tag in BOILERPLATE and self.boilerplate:
            self.ended_boilerplate = self.boilerplate.pop()
        if tag in BLOCKS and tag != "br":
            self._break(tag)
        self.pre = max(0, self.pre - (tag == "pre"))

    def data(self, text: str) -> None:
        if text.strip():
            self._drop_boilerplate()
        if self.invisible:
            return
        if self.in_title:
            self.title.append(text)
            return
        if self.pre:
            self._add(text)
            return
        words = text.split()
        if text[:1].isspace():
            self.gap = self.gap or " "
        self._add(" ".join(words))
        if words and text[-1].isspace():
            self.gap = " "

    def close(self) -> None:
        self._close_heading()

    def _add(self, text: str) -> None:
        if not text:
            return
        if self.length and self.gap:
            self.parts.append(self.gap)
            self.length += len(self.gap)
        self.gap = ""
        self.parts.append(text)
        self.length += len(text)

    def _break(self, tag: str) -> None:
        wanted = "\t" if tag in CELLS else "\n" if tag in LINES else "\n\n"
        self.gap = max(self.gap, wanted, key=GAPS.index)

    def _close_heading(self) -> None:
        if self.open_heading is None:
            return
        tag, start, first = self.open_heading
        self.open_heading = None
        text = "".join(self.parts[first:])
        start += len(text) - len(text.lstrip())
        if text.strip() and len(text) <= HEADING_LENGTH:
            title = " ".join(text.split())
            self.headings.append(Heading(start, self.length, LEVELS[tag], title))

    def _drop_boilerplate(self) -> None:
        """Remove the boilerplate that has ended, now that the page goes on after it."""
        if self.ended_boilerplate is None:
            return
        del self.parts[self.ended_boilerplate.parts :]
        del self.headings[self.ended_boilerplate.headings :]
        self.length = self.ended_boilerplate.length
        self.gap = "\n\n"
        self.open_heading = self.ended_boilerplate = None

    def document(self, source: str) -> Document:
        title = " ".join("".join(self.title).split())
        first = next((heading.text for heading in self.headings if heading.level == 1), "")
        return Document("".join(self.parts), title or first, source, tuple(self.headings))


HTML = Loader("html", "HTML", (".html", ".htm", ".xhtml"), load_html)
