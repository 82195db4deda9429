"""Remove what a web page doesn't show, and what is not of its text: menus, banners, adverts."""

import re
from collections.abc import Callable
from typing import Any

from dalm.ingest.loaders.html_sizes import (
    HEADINGS,
    LISTS,
    Size,
    is_section,
    is_titled,
    measure,
)

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
LINKING = frozenset(
    "breadcrumb breadcrumbs login menu metadata nav navbar navbox navi navigation pager rating "
    "recommend recommended recommendations related respond search share sharing signup sitemap "
    "skip social tags toc toolbar trending".split()
)
"""Of these, words for what is made of links and controls: prose below a heading is about them."""
NOT_ITS_OWN = frozenset(
    "has with no without open is main content article page wrapper two three layout".split()
)
"""Words beside which the others describe what has such a thing: `has-sidebar`."""
CONTENT = frozenset(
    "admonition note warning tip caution important callout alert hint footnote footnotes".split()
)
"""Words of classes by which a text sets remarks off."""
TITLES = frozenset(("topic-title", "sidebar-title"))
"""Classes of the titles of remarks that docutils writes."""
PERMALINKS = frozenset(("editsection", "headerlink", "permalink", "anchorjs"))
PERMALINK_MARKS = frozenset("¶ # § 🔗".split())
NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
DISCLOSURES = frozenset("accordion collapsible collapse faq expander disclosure".split())
"""Words of classes of buttons that are the titles of what they open."""
QUESTION_WORDS = 4  # of a button that is a question, not "Need help?"
SHARES = re.compile(
    r"/shar(?:e|er|ing|eArticle)\b|/intent/|^(?:whatsapp|fb-messenger):|wa\.me/", re.IGNORECASE
)
"""What links to share a page lead to."""
STAYS = frozenset(("body", "math", *HEADINGS))
MOST = 0.3  # of the sentences of a page, or of its text: what holds more is no boilerplate
LINKED = 0.6  # of a container's text: with more, and several links, it is a menu
MIN_LINKS = 3
FEW = 3  # paragraphs; a form or header with more is a page's frame
LINK_WORDS = 12  # on average; longer links are sentences
LISTED = LISTS | {"dl", "p", "table"}
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
    if element.get("role") == "tabpanel" or element.get("id") in opened:
        return True
    title = element.getprevious()  # what it opens need not have an id where it stands below
    return title is not None and any(
        each.get("aria-expanded") or (each.tag == "button" and _is_disclosure(each))
        for each in title.iter()
    )


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
    _remove(page, lambda element, size: _is_named(element, size) or _is_menu(element, size))


def _remove(page: Any, matches: Callable[[Any, Size], bool]) -> None:
    """Remove what matches, unless it holds much of the page's text, or its heading."""
    sizes = measure(page)
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


def _is_landmark(element: Any, size: Size) -> bool:
    tag, role = element.tag, element.get("role", "").lower()
    if tag in ("a", "span"):
        return _is_permalink(element)
    if tag in ("form", "header"):
        return size.paragraphs < FEW
    if tag == "footer" and next(element.iterancestors("blockquote", "figure"), None) is not None:
        return False  # who said it
    if tag in CONTROLS or tag in LANDMARKS or role in ROLES:
        return not _is_remark(element, size)
    return False


def _is_remark(element: Any, size: Size) -> bool:
    """Tell whether an element is set off from the text, but of it: a footnote, a warning."""
    if any(CONTENT.intersection(_words(name)) for name in _names(element)):
        return True
    if any(TITLES.intersection(_names(child)) for child in element.iterchildren("p")):
        return True
    if element.tag != "aside" or not size.in_main or size.links or not size.sentences:
        return False
    controls = next(element.iter("form", "input", "button"), None)
    return controls is None and not _is_named(element, size)


def _is_permalink(element: Any) -> bool:
    """Tell whether an element is the mark beside a heading that links to it, or edits it."""
    if element.tag == "a" and (element.text or "").strip() in PERMALINK_MARKS:
        return len(element) == 0
    return any(PERMALINKS.intersection(_words(name)) for name in _names(element))


def _is_named(element: Any, size: Size) -> bool:
    names = [_words(name) for name in _names(element)]
    if any(CONTENT.intersection(name) for name in names):
        return False
    if any(TITLES.intersection(_names(each)) for each in (element, *element.iterchildren("p"))):
        return False
    own = [name for name in names if name and not NOT_ITS_OWN & {*name}]
    words = {word for name in own for word in (name[0], name[-1])} & WORDS
    if not words:
        return False
    is_prose = size.sentences > 0 and size.linked == 0
    if is_prose and words <= LINKING:
        return next(element.iter(*HEADINGS), None) is None
    if is_prose or is_section(element):
        return not is_titled(element) or bool(WORDS.intersection(element.get("class", "").split()))
    return True


def _names(element: Any) -> list[str]:
    names = f"{element.get('class', '')} {element.get('id', '')}".split()
    return [name.split("--")[0] for name in names]  # `block--variant` is a block


def _words(name: str) -> list[str]:
    return [word.lower() for word in NAME.findall(name)]


def _is_menu(element: Any, size: Size) -> bool:
    """Tell whether nearly all the text of a container is that of several short links.

    A list or paragraph that follows a text of which it is part is none.
    """
    return (
        size.links >= MIN_LINKS
        and element.tag in LINK_CONTAINERS
        and size.linked > LINKED * size.length
        and size.link_words < LINK_WORDS * size.links
        and not _is_of_text(element, size)
    )


def _is_of_text(element: Any, size: Size) -> bool:
    table = next(element.iterancestors("table"), None) if element.tag in ("tr", "td") else element
    if table is not None and table.tag == "table":
        return next(table.iter("th"), None) is not None or (size.in_text and table is element)
    wrapped = element
    while wrapped.tag == "div" and len(wrapped) == 1 and not (wrapped.text or "").strip():
        wrapped = wrapped[0]
    if wrapped.tag in LISTED:
        is_box = next(wrapped.iter(*HEADINGS), None) is not None
        links = (each.get("href", "") for each in wrapped.iter("a"))
        return size.in_text and not is_box and not any(map(SHARES.search, links))
    return is_section(element)
