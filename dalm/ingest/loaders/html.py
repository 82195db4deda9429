"""HTML: bytes in, a document of its visible text out."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from dalm.ingest.document import Document, Heading, UnreadableError
from dalm.ingest.loaders.text import LONGEST_HEADING, MARKS, decode

DECLARED = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?([\w.:-]+)""", re.I
)
HEAD_BYTES = 4096  # a declaration stands near the beginning
BLOCKS = frozenset(
    "address article aside blockquote body br caption center dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main menu "
    "nav ol option p pre section select summary table tbody td textarea tfoot th thead tr "
    "ul".split()
)
LINES = frozenset("br li dt dd tr option".split())
"""Blocks that stand in a paragraph with their neighbours: a line each."""
CELLS = frozenset(("td", "th"))
GAPS = ("", " ", "\t", "\n", "\n\n")
"""White space between two texts, from the weakest to the strongest."""
UNSEEN = frozenset(("script", "style"))
ASIDE = frozenset("nav template svg math iframe noframes".split())
"""Left out once they have ended; the parser ends whatever was never closed with the page."""
LEVELS = {f"h{level}": level for level in range(1, 7)}
DEPTH = 4096


def read_html(data: bytes, source: str, encoding: str) -> Document:
    """Read what a page shows: blocks as paragraphs, headings by their level.

    Scripts, styles, drawings and navigation are left out; a text is kept when its element is
    never closed. The encoding is the byte order mark's, the declared one, or `encoding`.

    Raises:
        UnreadableError: bytes of another encoding, or elements nested too deep to follow.
    """
    from lxml import etree

    text = decode(data, _declared(data) or encoding)
    shown = _Shown()
    # Only names in angle brackets matter here, so the parser needs no network and no entity file.
    parser = etree.HTMLParser(target=shown, encoding="utf-8", no_network=True, huge_tree=True)
    if text.strip():
        etree.fromstring(text.encode(), parser)
    broken = [e for e in parser.error_log if e.level == etree.ErrorLevels.FATAL]
    if broken:
        raise UnreadableError(f"line {broken[0].line}: {broken[0].message.strip()}; is it HTML?")
    return shown.document(source)


def _declared(data: bytes) -> str:
    """Return the encoding that a page names for itself, if Python knows it."""
    import codecs

    if data.startswith(tuple(mark for mark, _ in MARKS)):
        return ""
    found = DECLARED.search(data[:HEAD_BYTES])
    if not found:
        return ""
    name = found.group(1).decode()
    try:
        known = codecs.lookup(name)
    except LookupError:
        raise UnreadableError(
            f"its declared encoding {name!r} is unknown; save it as UTF-8"
        ) from None
    # A page that could be searched for its declaration isn't in UTF-16, whatever it says.
    return "utf-8" if known.name.startswith("utf-16") else known.name


@dataclass(frozen=True, slots=True)
class _Mark:
    """How much there was when an element began."""

    parts: int
    length: int
    headings: int


class _Shown:
    """Gather the visible text while a parser walks through the page."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.gap = ""  # white space that is owed before the next text
        self.hidden = 0
        self.title: list[str] = []
        self.in_title = False
        self.pre = 0
        self.headings: list[Heading] = []
        self.open_heading: tuple[str, int, int] | None = None
        self.asides: list[_Mark] = []
        self.ended: _Mark | None = None

    def start(self, tag: Any, _attributes: Any) -> None:
        self._cut()
        if tag in UNSEEN:
            self.hidden += 1
        elif tag == "title" and not self.hidden:
            self.in_title = True
        if tag in BLOCKS:
            self._break(tag)
        if tag in LEVELS:
            self._close_heading()
            self.open_heading = (tag, self.length, len(self.parts))
        elif tag in ASIDE:
            self.asides.append(_Mark(len(self.parts), self.length, len(self.headings)))
        self.pre += tag == "pre"

    def end(self, tag: Any) -> None:
        if tag in UNSEEN:
            self.hidden = max(0, self.hidden - 1)
        elif tag == "title":
            self.in_title = False
        if self.open_heading and tag == self.open_heading[0]:
            self._close_heading()
        if tag in ASIDE and self.asides:
            self.ended = self.asides.pop()
        if tag in BLOCKS and tag != "br":
            self._break(tag)
        self.pre = max(0, self.pre - (tag == "pre"))

    def data(self, text: str) -> None:
        if text.strip():
            self._cut()
        if self.hidden:
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
        if text.strip() and len(text) <= LONGEST_HEADING:
            title = " ".join(text.split())
            self.headings.append(Heading(start, self.length, LEVELS[tag], title))

    def _cut(self) -> None:
        """Forget what stood aside, now that the page goes on behind it."""
        if self.ended is None:
            return
        del self.parts[self.ended.parts :]
        del self.headings[self.ended.headings :]
        self.length = self.ended.length
        self.gap = "\n\n"
        self.open_heading = self.ended = None

    def document(self, source: str) -> Document:
        title = " ".join("".join(self.title).split())
        first = next((heading.text for heading in self.headings if heading.level == 1), "")
        title = title or first or PurePath(source).stem
        return Document("".join(self.parts), title, source, tuple(self.headings))
