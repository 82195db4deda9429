"""Load books (epub): the chapters in reading order, by the reader of web pages."""

import posixpath
from typing import Any
from urllib.parse import unquote

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.html import page_pieces, parse_page
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.text import decode
from dalm.ingest.loaders.zipped_xml import Attributes, ZippedXml
from dalm.io.text_lines import UnreadableError

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
PAGES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml")
MISSING = "it is missing from the file"


def load_epub(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a book's chapters; one without a heading has that of the table of contents.

    Raises:
        UnreadableError: not an epub, protected against reading, broken, or too large unpacked.
    """
    archive = ZippedXml(data, "an epub", ".epub", options.max_bytes)
    package = _Package(archive)
    locked = _encrypted(archive)
    names = _contents(archive, package)
    builder = DocumentBuilder()
    for name, kind in package.unread.items():
        builder.lose(f"chapter {name}", f"it is {kind}, which is not read" if kind else MISSING)
    for part in package.chapters:
        if part in locked:
            builder.lose(f"chapter {part}", "it is protected against reading")
            continue
        if not (page := archive.read(part)):
            builder.lose(f"chapter {part}", MISSING)
            continue
        pieces = page_pieces(decode(page, "utf-8", "replace"), "all")
        builder.page()
        if pieces and not any(piece.kind == "heading" for piece in pieces):
            builder.heading(names.get(part, ""), 1)
        for piece in pieces:
            piece.write(builder)
    if not builder.length and locked:
        raise UnreadableError("protected against reading; get a copy without protection")
    return builder.document(package.title, source)


class _Package:
    """What an epub's package file lists: its title, its chapters in order, its contents."""

    def __init__(self, archive: ZippedXml) -> None:
        self.files: dict[str, Attributes] = {}
        self.order: list[str] = []
        self.path, self.title, self.contents = "", "", ""
        self._in_title = False
        archive.parse(CONTAINER, self._start_container)
        archive.need(CONTAINER)
        archive.need(self.path)
        archive.parse(self.path, self._start, self._end, self._data)
        self.title = " ".join(self.title.split())
        folder = posixpath.dirname(self.path)
        pages = {
            name: posixpath.normpath(posixpath.join(folder, unquote(each.get("href", ""))))
            for name, each in self.files.items()
        }
        self.chapters: list[str] = []
        self.unread: dict[str, str] = {}  # what is in the reading order, with its kind
        for name in self.order:
            item = self.files.get(name, {})
            kind = item.get("media-type", "")
            if kind not in PAGES:
                if not kind.startswith("image/"):
                    self.unread[pages.get(name, name)] = kind
            elif "nav" not in item.get("properties", "").split():
                self.chapters.append(pages[name])
        for name, each in self.files.items():
            is_contents = "nav" in each.get("properties", "").split()
            if is_contents or each.get("media-type") == "application/x-dtbncx+xml":
                self.contents = self.contents or pages[name]

    def _start_container(self, tag: str, attributes: Attributes) -> None:
        if tag.rpartition(" ")[2] == "rootfile" and not self.path:
            self.path = attributes.get("full-path", "")

    def _start(self, tag: str, attributes: Attributes) -> None:
        match tag.rpartition(" ")[2]:
            case "item":
                self.files[attributes.get("id", "")] = attributes
            case "itemref":
                self.order.append(attributes.get("idref", ""))
            case "title":
                self._in_title = not self.title

    def _end(self, _: str) -> None:
        self._in_title = False

    def _data(self, text: str) -> None:
        if self._in_title:
            self.title += text


def _encrypted(archive: ZippedXml) -> set[str]:
    """Return the parts that are encrypted; fonts often are."""
    found: set[str] = set()

    def start(tag: str, attributes: Attributes) -> None:
        if tag.rpartition(" ")[2] == "CipherReference":
            found.add(unquote(attributes.get("URI", "")))

    archive.parse(ENCRYPTION, start)
    return found


def _contents(archive: ZippedXml, package: _Package) -> dict[str, str]:
    """Return the names of the chapters, by the first place in each that the contents name."""
    page: Any = parse_page(decode(archive.read(package.contents), "utf-8", "replace"))
    if page is None:
        return {}
    folder = posixpath.dirname(package.contents)
    found: dict[str, str] = {}
    name = ""
    for each in page.iter("a", "text", "content"):
        target = each.get("href") or each.get("src") or ""
        if each.tag != "content":
            name = " ".join("".join(each.itertext()).split())
        if target:
            path = unquote(target.partition("#")[0])
            found.setdefault(posixpath.normpath(posixpath.join(folder, path)), name)
    return found


EPUB = Loader("epub", "epub", (".epub",), load_epub)
