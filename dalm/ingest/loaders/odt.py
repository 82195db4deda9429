"""Load OpenDocument texts (odt): paragraphs, headings, tables, lists, equations and notes."""

import posixpath
from copy import deepcopy
from typing import Any

from lxml import etree

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_styles import CODE_STYLE, number
from dalm.ingest.loaders.html_boilerplate import remove
from dalm.ingest.loaders.html_pieces import PageReader
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.xml_tree import MATH, drop, local_name, move_after, parse_tree, rename
from dalm.ingest.loaders.zipped_xml import ZippedXml, doctype_error
from dalm.io.text_lines import UnreadableError

CONTENT, META = "content.xml", "meta.xml"
NAMES = {
    "p": "p", "list": "ul", "list-item": "li", "list-header": "li", "table": "table",
    "table-row": "tr", "table-cell": "td", "table-header-rows": "thead", "line-break": "br",
    "text-box": "div", "note-body": "div", "section": "div", "text": "div", "body": "div",
    "numbered-paragraph": "div",
}  # fmt: skip
DROPPED = (
    "annotation annotation-end tracked-changes table-of-content illustration-index table-index "
    "object-index user-index alphabetical-index note-citation hidden-text hidden-paragraph forms "
    "scripts font-face-decls covered-table-cell page-number page-count ruby-text desc title "
    "sequence-decls user-field-decls variable-decls"
).split()
MOST_REPEATS, MOST_COPIES = 100, 10_000


def load_odt(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a text document as it reads with all tracked changes accepted.

    Footnotes and text boxes follow their paragraph. Hidden text, tables of contents and comments
    are left out; charts and other embedded objects are reported as unread.

    Raises:
        UnreadableError: not such a file, encrypted, broken, or too large once unpacked.
    """
    archive = ZippedXml(data, "an OpenDocument text", ".odt", options.max_bytes)
    content = archive.need(CONTENT)
    if b"<!DOCTYPE" in content[:1000]:
        raise doctype_error(".odt")
    if b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise UnreadableError("could not be unpacked (encrypted); save it without a password")
    root = parse_tree(content)
    text = root.find(".//{*}body/{*}text")
    if text is None:
        raise UnreadableError("not an OpenDocument text: there is no text in it; save it as .odt")
    builder = DocumentBuilder()
    hidden, lists, parents = _styles(root)
    _read_objects(text, archive, builder)
    drop(text, DROPPED)
    for element in list(text.iter()):
        if _attribute(element, "style-name") in hidden:
            remove(element)
    _name_elements(text, lists, parents)
    for piece in PageReader().read(text):
        piece.write(builder)
    return builder.document(_title(archive), source)


def _attribute(element: Any, name: str, default: str = "") -> str:
    found = (value for key, value in element.attrib.items() if key.rpartition("}")[2] == name)
    return next(found, default)


def _styles(root: Any) -> tuple[set[str], dict[str, list[str]], dict[str, str]]:
    """Return the styles of hidden text, the kinds of numbers of lists, and styles' parents."""
    hidden = {
        _attribute(style, "name")
        for style in root.iter("{*}style")
        for properties in style.iter("{*}text-properties")
        if _attribute(properties, "display") == "none"
    }
    lists = {
        _attribute(style, "name"): [_attribute(level, "num-format") for level in style]
        for style in root.iter("{*}list-style")
    }
    parents = {
        _attribute(style, "name"): _attribute(style, "parent-style-name")
        for style in root.iter("{*}style")
    }
    return hidden, lists, parents


def _read_objects(text: Any, archive: ZippedXml, builder: DocumentBuilder) -> None:
    """Put the equations where they are shown; what else is embedded is lost."""
    for element in list(text.iter("{*}object", "{*}object-ole")):
        path = posixpath.normpath(_attribute(element, "href") or "object")
        part = archive.read(posixpath.join(path, CONTENT))
        inline = element.find(MATH)
        equation = parse_tree(part) if part else inline
        if equation is not None and equation.tag == MATH:
            element.clear(keep_tail=True)
            element.append(equation)
        elif equation is None or equation.find(".//{*}body/{*}chart") is not None:
            builder.lose("chart or embedded object", "save it as a document of its own")
        else:
            builder.lose("embedded document", "save it as a document of its own")


def _name_elements(text: Any, lists: dict[str, list[str]], parents: dict[str, str]) -> None:
    """Call the elements as HTML does."""
    for element in list(text.iter("{*}note-body", "{*}text-box")):
        blocks = [e for e in element.iterancestors() if local_name(e) in ("p", "h", "table")]
        if blocks:
            move_after(element, blocks[-1])
    _write_out(text)
    for element in list(text.iter()):
        match local_name(element):
            case "s":
                element.text = " " * min(number(_attribute(element, "c"), 1), MOST_REPEATS)
            case "tab":
                element.text = " "
            case "h":
                level = number(_attribute(element, "outline-level"), 1)
                element.tag = f"h{min(max(level, 1), 6)}"
            case "p":
                style = _attribute(element, "style-name")
                _name_paragraph(element, {style, parents.get(style, "")})
            case "list":
                _name_list(element, lists)
            case "table-cell":
                element.set("colspan", _attribute(element, "number-columns-spanned", "1"))
                element.set("rowspan", _attribute(element, "number-rows-spanned", "1"))
    rename(text, NAMES, "span")


def _write_out(text: Any) -> None:
    """Put in the cells and rows that are written once for several with the same text."""
    left = MOST_COPIES
    for name in ("columns", "rows"):
        element = "cell" if name == "columns" else "row"
        for each in list(text.iter(f"{{*}}table-{element}")):
            count = number(_attribute(each, f"number-{name}-repeated"), 1)
            if 1 < count <= min(MOST_REPEATS, left) and any(map(str.strip, each.itertext())):
                left -= count
                for _ in range(count - 1):
                    each.addnext(deepcopy(each))


def _name_paragraph(element: Any, styles: set[str]) -> None:
    """Call a paragraph by its style; consecutive lines of code are one element."""
    if "Title" in styles:
        element.tag = "h1"
    elif any(CODE_STYLE.fullmatch(style.replace("_20_", " ")) for style in styles):
        for child in element.iter("{*}line-break"):
            child.text = "\n"
        before = element.getprevious()
        if before is None or before.tag != "pre":
            element.tag = "pre"
            return
        line = etree.SubElement(before, "span")
        line.text = "\n"
        element.tail = None
        line.append(element)


def _name_list(element: Any, lists: dict[str, list[str]]) -> None:
    """Number the items as the list's style says; a list within another has its style."""
    around = [each for each in element.iterancestors() if local_name(each) in ("list", "ol", "ul")]
    named = (_attribute(each, "style-name") for each in (element, *around))
    levels = lists.get(next(filter(None, named), ""), [])
    form = levels[len(around)] if len(around) < len(levels) else ""
    if form:
        element.tag = "ol"
        element.set("type", form)
        for item in element:
            if value := _attribute(item, "start-value"):
                item.set("value", value)


def _title(archive: ZippedXml) -> str:
    part = archive.read(META)
    found = parse_tree(part).find(".//{http://purl.org/dc/elements/1.1/}title") if part else None
    return "" if found is None else " ".join((found.text or "").split())


ODT = Loader("odt", "odt", (".odt", ".ott"), load_odt)
