"""Measure the elements of a web page: how much is text, how much links, and what is of the text."""

import re
from dataclasses import dataclass
from typing import Any

from lxml import etree

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
LISTS = frozenset(("ul", "ol", "menu", "dir"))
TEXT = frozenset(("main", "article", "h1"))
SENTENCE = 60  # characters; a shorter text between two tags may be a label
TEXT_BLOCKS = frozenset(("p", "ul", "ol", "dl", "dt", "table", "pre", "blockquote", *HEADINGS))
"""What a list of links follows within a text, other than a menu does."""
REMARK = 3  # paragraphs of a remark beside which a list of links stands
WRAPPERS = frozenset(("ul", "ol", "dl", "li", "dd", "div"))
OTHER_KINDS = re.compile(r"(?:#|mailto:|tel:|sms:|javascript:)", re.IGNORECASE)
SECTION = re.compile(r"(?:section|(?:sect|level)-?\d)$")
"""A class by which Sphinx, Asciidoctor, DocBook or pandoc mark a section of the text."""


@dataclass(slots=True)
class Size:
    """What an element holds: characters of text, of sentences and of links, and how many links."""

    tag: str = ""
    length: int = 0
    sentences: int = 0
    linked: int = 0
    links: int = 0
    link_words: int = 0
    paragraphs: int = 0
    is_text: bool = False
    """It has the page's heading, or an element for main text."""
    in_main: bool = False
    """It is in an element for main text, or in a section whose id is made from its heading."""
    in_text: bool = False
    """It follows a text, in the same element, whose part it is."""
    has_text: bool = False
    """Of its own children one is a paragraph of the text, or the page's heading."""
    has_heading: bool = False
    ends_in_text: bool = False
    """The last of its children so far is text, more than links."""

    def add_text(self, text: str | None, in_link: bool) -> None:
        """Add the text between two tags."""
        if text and (length := len(text.strip())):
            self.length += length
            self.linked += length * in_link
            self.link_words += len(text.split()) * in_link
            self.sentences += length * (not in_link and length >= SENTENCE)
            self.ends_in_text = not in_link

    def add(self, other: "Size") -> None:
        """Add a child."""
        self.length += other.length
        self.sentences += other.sentences
        self.linked += other.linked
        self.links += other.links
        self.link_words += other.link_words
        self.paragraphs += other.paragraphs
        self.is_text |= other.is_text
        if other.length:
            is_block = other.tag in TEXT_BLOCKS or (self.in_main and other.paragraphs < REMARK)
            mostly_text = other.tag in HEADINGS or 2 * other.linked < other.length
            self.ends_in_text = is_block and (mostly_text or other.in_text)
            self.has_heading |= other.tag in HEADINGS
            self.has_text |= other.tag == "h1" or (is_block and other.sentences > 0)

    def holds_text(self) -> bool:
        """Tell whether what comes next within it is of the text."""
        if self.tag in WRAPPERS and self.in_text:
            return True
        if self.tag in ("li", "dd") and 2 * self.linked < self.length:
            return not self.has_heading  # of a box in a column beside the text
        return self.ends_in_text and (self.in_main or self.has_text)


def measure(page: Any) -> dict[Any, Size]:
    """Return the sizes of all elements."""
    sizes: dict[Any, Size] = {}
    open_sizes = [Size()]
    links = 0
    for event, element in etree.iterwalk(page, events=("start", "end")):
        tag = element.tag
        if event == "start":
            above = open_sizes[-1]
            size = sizes[element] = Size(tag, paragraphs=int(tag == "p"), is_text=tag in TEXT)
            open_sizes.append(size)
            size.in_main = above.in_main or _is_main(element)
            size.in_text = above.holds_text()
            if tag == "a" and is_link(element):
                links += 1
                size.links = 1
            size.add_text(element.text, bool(links))
        else:
            size = open_sizes.pop()
            if tag == "a" and is_link(element):
                links -= 1
            above = open_sizes[-1]
            above.add(size)
            above.add_text(element.tail, bool(links))
    return sizes


def _is_main(element: Any) -> bool:
    tag, role = element.tag, element.get("role", "")
    return tag in ("main", "article") or role in ("main", "article") or is_section(element)


def is_section(element: Any) -> bool:
    """Tell whether an element is a section as documentation generators write them."""
    if element.tag not in ("section", "div"):
        return False
    classes = element.get("class", "").split()
    if any(map(SECTION.match, classes)):
        return "section" not in classes or is_titled(element)
    return element.tag == "section" and not classes and is_titled(element)


def is_titled(element: Any) -> bool:
    """Tell whether an element's id is made from its heading."""
    name = _letters(element.get("id", ""))
    heading = next(element.iter(*HEADINGS), None) if name else None
    return heading is not None and _letters("".join(heading.itertext())) == name


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def is_link(element: Any) -> bool:
    """Tell whether an element leads to another page."""
    return element.tag == "a" and not OTHER_KINDS.match(element.get("href") or "#")
