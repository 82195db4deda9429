"""Remove what a web page doesn't show, and what is not of its text: menus, banners, adverts."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lxml import etree

INVISIBLE = frozenset(
    "script style template noscript iframe embed canvas audio video head title datalist noframes "
    "map".split()
)
DRAWINGS = frozenset(("svg", "object"))
NO_DISPLAY = re.compile(r"(?<![\w-])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
NOTES = frozenset("footnote endnote rearnote note".split())
"""Of a book, which readers show when they are asked for."""
OPENS = ("aria-controls", "data-target", "data-bs-target")
CONTROLS = frozenset("button select textarea input progress meter dialog menu".split())
LANDMARKS = frozenset(("nav", "footer", "aside"))
ROLES = frozenset(
    "navigation banner contentinfo complementary search menu menubar dialog alertdialog toolbar "
    "tablist tooltip doc-toc".split()
)
WORDS = frozenset(
    "ad ads adsense advert advertisement advertising anzeige author authorbox banner bio "
    "breadcrumb breadcrumbs byline catlinks comment comments commentlist consent cookie cookies "
    "copyright disqus footer gdpr impressum jumplink lightbox login "
    "masthead menu metadata modal nav navbar navbox navi navigation newsletter noprint outbrain "
    "pager pagination paging popup printfooter promo rating recommend recommended "
    "recommendations related respond search share sharedaddy sharing sidebar sidenav signup "
    "sitemap skip social sponsor sponsored subnav subscribe subscription taboola tagcloud tags "
    "teaser teasers toc toolbar trackback trackbacks trending".split()
)
"""First or last words of classes and ids that name what surrounds a text."""
NOT_ITS_OWN = frozenset("has with no without open is main content article page wrapper".split())
"""Words beside which the others describe what has such a thing: `has-sidebar`."""
CONTENT = frozenset("admonition note warning tip caution important callout alert hint".split())
"""Words of classes by which a text sets remarks off."""
PERMALINKS = frozenset(("editsection", "headerlink", "permalink", "anchorjs"))
PERMALINK_MARKS = frozenset("¶ # § 🔗".split())
NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
DISCLOSURES = frozenset("accordion collapsible collapse faq expander disclosure".split())
"""Words of classes of buttons that are the titles of what they open."""
QUESTION_WORDS = 4  # of a button that is a question, not "Need help?"
STAYS = frozenset(("body", "math", *HEADINGS))
TEXT = frozenset(("main", "article", "h1"))
SENTENCE = 60  # characters; a shorter text between two tags may be a label
MOST = 0.3  # of the sentences of a page, or of its text: what holds more is no boilerplate
LINKED = 0.6  # of a container's text: with more, and several links, it is a menu
MIN_LINKS = 3
FEW = 3  # paragraphs; a form or header with more is a page's frame
LINK_WORDS = 12  # on average; longer links are sentences
LINK_CONTAINERS = frozenset("ul ol div section p table tr td dl form center header".split())


def remove(element: Any) -> None:
    """Remove an element with all in it, but not the text after it."""
    parent, tail = element.getparent(), element.tail
    if parent is None:
        return
    if tail:
        before = element.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + tail
        else:
            parent.text = (parent.text or "") + tail
    parent.remove(element)


def is_hidden(element: Any) -> bool:
    """Tell whether browsers don't show an element, as far as it says so itself."""
    if element.tag == "body" or element.get("epub:type") in NOTES:  # shown later
        return False
    return element.get("hidden", "until-found").lower() != "until-found" or bool(
        NO_DISPLAY.search(element.get("style", ""))
    )


def remove_invisible(page: Any) -> None:
    """Remove scripts, drawings and hidden elements, but equations hidden behind their picture.

    What a reader can open, the tabs behind the first one and answers of an accordion, stays. What
    is hidden from screen readers alone is an ornament or said again, unless it is most of the
    page, behind a dialog that was open when the page was saved.
    """
    opened = _opened(page)
    for element in _outermost(page, lambda each: _is_invisible(each, opened)):
        remove(element)
    if silent := [each for each in page.iter() if _is_silent(each) and not _opens(each, opened)]:
        most = _length(page) / 2
        for element in silent:
            if _length(element) <= most:
                remove(element)


def _opened(page: Any) -> set[str]:
    """Return the ids of what the controls of a page open."""
    targets = (each.get(name) for each in page.iter() for name in OPENS)
    return {one.lstrip("#") for target in targets if target for one in target.split()}


def _opens(element: Any, opened: set[str]) -> bool:
    return element.get("role") == "tabpanel" or element.get("id") in opened


def _is_invisible(element: Any, opened: set[str]) -> bool:
    if element.tag in DRAWINGS:  # browsers end one that isn't closed at the next block
        return next(element.iter("p", "div", *HEADINGS), None) is None
    if element.tag in INVISIBLE:
        return True
    if not is_hidden(element) or _opens(element, opened):
        return False
    return next(element.iter("math"), None) is None


def _is_silent(element: Any) -> bool:
    silent = element.get("aria-hidden", "").lower() == "true"
    return silent and next(element.iter("math"), None) is None


def _length(element: Any) -> int:
    return sum(len(text.strip()) for text in element.itertext())


def _outermost(page: Any, matches: Callable[[Any], bool]) -> list[Any]:
    """Return the elements that match, of those within one another the outermost."""
    found: list[Any] = []
    inside: set[Any] = set()
    for element in page.iterdescendants():
        if element.getparent() in inside:
            inside.add(element)
        elif matches(element):
            inside.add(element)
            found.append(element)
    return found


@dataclass(slots=True)
class _Size:
    """What an element holds: characters of text, of sentences and of links, and how many links."""

    length: int = 0
    sentences: int = 0
    linked: int = 0
    links: int = 0
    link_words: int = 0
    paragraphs: int = 0
    is_text: bool = False
    """It has the page's heading, or an element for main text."""

    def add_text(self, text: str | None, in_link: bool) -> None:
        if text and (length := len(text.strip())):
            self.length += length
            self.linked += length * in_link
            self.link_words += len(text.split()) * in_link
            self.sentences += length * (not in_link and length >= SENTENCE)

    def add(self, other: "_Size") -> None:
        self.length += other.length
        self.sentences += other.sentences
        self.linked += other.linked
        self.links += other.links
        self.link_words += other.link_words
        self.paragraphs += other.paragraphs
        self.is_text |= other.is_text


def _measure(page: Any) -> dict[Any, _Size]:
    sizes: dict[Any, _Size] = {}
    open_sizes = [_Size()]
    links = 0
    for event, element in etree.iterwalk(page, events=("start", "end")):
        tag = element.tag
        if event == "start":
            size = sizes[element] = _Size()
            open_sizes.append(size)
            if tag == "a" and is_link(element):
                links += 1
                size.links = 1
            size.paragraphs = int(tag == "p")
            size.is_text = tag in TEXT
            size.add_text(element.text, bool(links))
        else:
            size = open_sizes.pop()
            if tag == "a" and is_link(element):
                links -= 1
            above = open_sizes[-1]
            above.add(size)
            above.add_text(element.tail, bool(links))
    return sizes


def remove_landmarks(page: Any) -> None:
    """Remove navigation, banners, side notes, forms and controls, by their tags and roles."""
    for button in list(page.iter("button")):
        if next(button.iterancestors("dt", "summary", *HEADINGS), None) is not None:
            button.tag = "span"
        elif _is_disclosure(button):
            button.tag = "summary"
    _remove(page, _is_landmark)


def _is_disclosure(button: Any) -> bool:
    """Tell whether a button is the title of what it opens, such as a question and its answer."""
    if any(DISCLOSURES.intersection(_words(name)) for name in _names(button)):
        return True
    text = "".join(button.itertext()).split()
    return len(text) >= QUESTION_WORDS and text[-1].endswith(("?", "？", "؟"))


def remove_boilerplate(page: Any) -> None:
    """Remove also what its class or id calls boilerplate, and what is hardly more than links."""
    _remove(page, lambda element, size: _is_named(element) or _is_menu(element, size))


def _remove(page: Any, matches: Callable[[Any, _Size], bool]) -> None:
    """Remove what matches, unless it holds much of the page's text, or its heading."""
    sizes = _measure(page)
    sentences, length = MOST * sizes[page].sentences, sizes[page].length / 2

    def is_boilerplate(element: Any) -> bool:
        size = sizes[element]
        return (
            not size.is_text
            and size.sentences <= sentences
            and size.length <= length
            and element.tag not in STAYS
            and matches(element, size)
        )

    for element in _outermost(page, is_boilerplate):
        remove(element)


def _is_landmark(element: Any, size: _Size) -> bool:
    tag = element.tag
    if tag in ("a", "span"):
        return _is_permalink(element)
    if tag in ("form", "header"):
        return size.paragraphs < FEW
    if tag in CONTROLS or tag in LANDMARKS or element.get("role", "").lower() in ROLES:
        return not any(CONTENT.intersection(_words(name)) for name in _names(element))
    return False


def _is_permalink(element: Any) -> bool:
    """Tell whether an element is the mark beside a heading that links to it, or edits it."""
    if element.tag == "a" and (element.text or "").strip() in PERMALINK_MARKS:
        return len(element) == 0
    return any(PERMALINKS.intersection(_words(name)) for name in _names(element))


def _is_named(element: Any) -> bool:
    names = [_words(name) for name in _names(element)]
    if any(CONTENT.intersection(name) for name in names):
        return False
    return any({name[0], name[-1]} & WORDS and not NOT_ITS_OWN & {*name} for name in names if name)


def _names(element: Any) -> list[str]:
    names = f"{element.get('class', '')} {element.get('id', '')}".split()
    return [name.split("--")[0] for name in names]  # `block--variant` is a block


def _words(name: str) -> list[str]:
    return [word.lower() for word in NAME.findall(name)]


def _is_menu(element: Any, size: _Size) -> bool:
    """Tell whether nearly all the text of a container is that of several short links."""
    return (
        size.links >= MIN_LINKS
        and element.tag in LINK_CONTAINERS
        and size.linked > LINKED * size.length
        and size.link_words < LINK_WORDS * size.links
    )


def is_link(element: Any) -> bool:
    """Tell whether an element leads to another page."""
    return element.tag == "a" and not (element.get("href") or "#").startswith("#")
