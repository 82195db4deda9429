"""Parse XML into a tree whose elements are called as in HTML, for the reader of web pages."""

from collections.abc import Iterable, Mapping
from typing import Any

from lxml import etree

from dalm.ingest.loaders.html_boilerplate import remove
from dalm.io.text_lines import UnreadableError

MATH = "{http://www.w3.org/1998/Math/MathML}math"
DEEPEST = 2000  # levels of nesting
TOO_DEEP = "its elements are nested too deep; save it in a simpler form"


def parse_tree(data: bytes) -> Any:
    """Return the tree; entities that a file defines are not replaced: they can grow without bound.

    Raises:
        UnreadableError: broken, or nested too deep.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        if "depth" in str(error):
            raise UnreadableError(TOO_DEEP) from None
        reason = str(error).partition("(<string>")[0].strip()
        raise UnreadableError(f"broken XML ({reason}); save it again") from None
    depth = 0
    for event, each in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEEPEST:
            raise UnreadableError(TOO_DEEP)
        del each
    return root


def local_name(element: Any) -> str:
    """Return an element's name without its namespace; empty for an entity."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def drop(root: Any, names: Iterable[str]) -> None:
    """Remove the elements with these local names, and entities that stay unknown."""
    unwanted = frozenset(names)
    for element in list(root.iterdescendants()):
        if local_name(element) in unwanted or not isinstance(element.tag, str):
            remove(element)


def rename(root: Any, names: Mapping[str, str], other: str) -> None:
    """Call elements as HTML does, and equations' elements without a namespace."""
    for element in root.iter():
        if (isinstance(element.tag, str) and element.tag.startswith("{")) or element.tag in names:
            name = local_name(element)
            in_math = element.tag.startswith(MATH[: MATH.index("}") + 1])
            element.tag = name if in_math else names.get(name, other)


def move_after(element: Any, block: Any) -> None:
    """Move an element, but not the text after it, behind the block that it is in."""
    tail = element.tail
    remove(element)
    element.tail = None
    del tail
    following = block.tail
    block.tail = None
    block.addnext(element)
    element.tail = following
