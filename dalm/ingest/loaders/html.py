"""Load the visible text of HTML pages, with the encodings that browsers would use."""

import codecs
import re
from html import escape
from typing import Any

from dalm.config.shared import HtmlText
from dalm.ingest.contents_lines import contents_lists
from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.html_boilerplate import (
    remove_boilerplate,
    remove_invisible,
    remove_landmarks,
)
from dalm.ingest.loaders.html_main_text import find_main_text, is_installed
from dalm.ingest.loaders.html_pieces import HtmlPiece, PageReader, flat_text
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.text import decode
from dalm.io.text_encoding import marked_encoding
from dalm.io.text_lines import UnreadableError

DECLARED_ENCODING = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?([\w.:-]+)""", re.I
)
END_OF_PAGE = re.compile(r"</html\s*>", re.IGNORECASE)
"""What the parser stops at and browsers don't: templates put it in the midst of a page."""
CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
"""Text in XHTML, but a comment in HTML."""
SHADOW = ("shadowrootmode", "shadowroot")
HEAD_BYTES = 4096  # a declaration is near the beginning
UNSUPPORTED = ("replacement", "x-user-defined")
"""Encodings of webencodings that stand for labels whose text is not to be decoded."""


def load_html(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a page's text: paragraphs, headings with their level, tables, lists and code.

    With `html="all"` all that is shown; by default the main text, without menus, banners and
    related links. Scripts, drawings and hidden elements are left out of both. The encoding is that
    of the byte order mark, else the declared one, else the option's.

    Raises:
        UnreadableError: bytes of another encoding, or elements nested too deep to parse.
    """
    text = decode(data, _declared_encoding(data) or options.encoding, "c1_controls")
    text = _as_html(text)
    page = parse_page(text)
    builder = DocumentBuilder()
    if page is None:
        return builder.document("", source)
    title = next((flat_text(each)[0] for each in page.iter("title") if _is_page_title(each)), "")
    for piece in read_pieces(page, text, options.html):
        piece.write(builder)
    document = builder.document(title, source)
    return document.without(() if options.html == "all" else contents_lists(document.text))


def page_pieces(text: str, mode: HtmlText) -> list[HtmlPiece]:
    """Return the pieces of a page that is part of a file of another kind."""
    text = _as_html(text)
    page = parse_page(text)
    return [] if page is None else read_pieces(page, text, mode)


def read_pieces(page: Any, text: str, mode: HtmlText) -> list[HtmlPiece]:
    """Return the pieces of all that a page shows, or of its main text."""
    _open_frames(page)
    remove_invisible(page)
    if mode == "all":
        return PageReader().read(page)
    remove_landmarks(page)
    pieces = PageReader().read(page) if is_installed() else []
    remove_boilerplate(page)
    own = PageReader().read(page)
    return find_main_text(text, pieces, own) if pieces else own


def _as_html(text: str) -> str:
    """Return a page without early ends, and XHTML as HTML."""
    text = END_OF_PAGE.sub("\n", text)
    if text.lstrip().startswith("<?xml"):
        text = CDATA.sub(lambda found: escape(found.group(1), quote=False), text)
    return text


def _open_frames(page: Any) -> None:
    """Put the pages within the page, of frames and components, where they are shown."""
    for template in page.iter("template"):
        if any(map(template.get, SHADOW)):
            template.tag = "div"
    for frame in [each for each in page.iter("iframe") if each.get("srcdoc")]:
        inner = parse_page(frame.get("srcdoc"))
        if inner is not None:
            _open_frames(inner)
            frame.tag, frame.text = "div", None
            frame.extend(inner.iterchildren("body"))


def _is_page_title(element: Any) -> bool:
    """Tell whether a title is the page's, and not that of a drawing."""
    return next(element.iterancestors("svg", "symbol"), None) is None


def parse_page(text: str) -> Any:
    """Return a page's tree; None if it is empty."""
    from lxml import etree

    if not text.strip():
        return None
    # The parser needs no network and no entity file: HTML's entities are built in.
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=True, remove_comments=True, remove_pis=True
    )
    page = etree.fromstring(text.encode(), parser)
    fatal = [e for e in parser.error_log if e.level == etree.ErrorLevels.FATAL]
    if fatal and "depth" in fatal[0].message:
        raise UnreadableError("its elements are nested too deep; save it in a simpler form")
    if fatal:
        raise UnreadableError(f"line {fatal[0].line}: {fatal[0].message.strip()}; is it HTML?")
    return page


def _declared_encoding(data: bytes) -> str:
    """Return the codec for the encoding that a page declares; empty without one."""
    label = "" if marked_encoding(data) else declared_label(data)
    codec = codec_of(label) if label else ""
    if label and not codec:
        raise UnreadableError(f"its declared encoding {label!r} is unknown; save it as UTF-8")
    # A page that could be searched for its declaration isn't in UTF-16, whatever it declares.
    return "utf-8" if codec.startswith("utf-16") else codec


def declared_label(data: bytes) -> str:
    """Return what a page calls its encoding; empty if it doesn't say."""
    found = DECLARED_ENCODING.search(data[:HEAD_BYTES])
    return found.group(1).decode() if found else ""


def codec_of(label: str) -> str:
    """Return the codec for the label of an encoding, as browsers read it; empty if it is unknown.

    A label is not always the codec of the same name: latin1 means windows-1252. Labels that
    browsers don't know, but Python does (cp437), are read by Python's codec.
    """
    import webencodings

    encoding = webencodings.lookup(label)
    try:
        known = encoding is not None and encoding.name not in UNSUPPORTED
        codec = encoding.codec_info if known else codecs.lookup(label)
        b"".decode(codec.name)  # Python's codecs are not all of text
    except LookupError:
        return ""
    return str(codec.name)


def _decode_c1_control(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that the windows-125x codecs leave undefined to C1 controls, as browsers do."""
    if isinstance(error, UnicodeDecodeError) and error.encoding == "charmap":
        byte = error.object[error.start]
        if 0x80 <= byte < 0xA0:
            return chr(byte), error.start + 1
    raise error


codecs.register_error("c1_controls", _decode_c1_control)


HTML = Loader("html", "HTML", (".html", ".htm", ".xhtml"), load_html)
