"""Load XML: DocBook, DITA and JATS with their structure, any other by its texts."""

import re
from typing import Any

from lxml import etree

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.html_boilerplate import remove
from dalm.ingest.loaders.html_pieces import PageReader
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.xml_tree import drop, local_name, move_after, parse_tree, rename

SECTIONS = frozenset(
    "book part chapter appendix preface article section sect1 sect2 sect3 sect4 sect5 simplesect "
    "refentry refsect1 refsect2 refsect3 refsection topic concept task reference troubleshooting "
    "glossary glossentry sec app bookinfo articleinfo chapterinfo info front".split()
)
"""Elements whose title is a heading."""
INFO = frozenset("bookinfo articleinfo chapterinfo sectioninfo info front article-meta".split())
"""Elements that are no level of their own: their title is that of what they are in."""
TITLES = frozenset(("title", "refname", "article-title"))
_CALLED = {
    "p": "para simpara formalpara p abstract author corpauthor shortdesc cmd",
    "ul": "itemizedlist simplelist ul steps-unordered choices list",
    "ol": "orderedlist procedure ol steps substeps",
    "li": "listitem member step substep li list-item choice",
    "dl": "variablelist dl parml",
    "dt": "term dt pt",
    "dd": "dd pd",
    "table": "table informaltable simpletable",
    "tr": "row strow sthead tr",
    "td": "entry stentry td",
    "pre": "programlisting screen codeblock literallayout msgblock pre preformat",
    "th": "th",
    "thead": "thead",
    "caption": "caption",
    "sup": "superscript sup",
    "blockquote": "blockquote disp-quote",
}
NAMES = {name: called for called, names in _CALLED.items() for name in names.split()}
"""What HTML calls the elements of DocBook, DITA and JATS."""
BLOCKS = frozenset(
    "note warning caution tip important example figure informalexample informalequation equation "
    "tgroup tbody fig body sidebar epigraph qandaset qandaentry question answer glossdef "
    "varlistentry dlentry conbody taskbody refbody context result prereq postreq".split()
) | SECTIONS  # fmt: skip
DROPPED = "indexterm remark prolog revhistory footnoteref xref-alt alt".split()
FORMS = ("table", "array", "math", "tex-math")
"""Of the same thing in several forms (JATS's `alternatives`), the ones that are read first."""
TEX_BODY = re.compile(r"\\begin\{document\}(.*)\\end\{document\}", re.DOTALL)
KNOWN = frozenset("article book chapter topic concept task reference section part refentry".split())


def load_xml(data: bytes, source: str, _options: LoaderOptions) -> Document:
    """Load the texts between an XML file's tags; attributes are not read.

    Of a vocabulary other than DocBook, DITA and JATS each element with text is a paragraph, and of
    an element that holds only such ones, each is a line `name: text`.

    Raises:
        UnreadableError: broken, or nested too deep.
    """
    root = parse_tree(data)
    builder = DocumentBuilder()
    for entity in root.iter(etree.Entity):
        builder.lose(f"entity {entity.text}", "put in its place the text that it stands for")
    if local_name(root) in KNOWN:
        drop(root, DROPPED)
        _choose_forms(root)
        _name_structure(root)
    else:
        drop(root, ())
        _name_texts(root)
    for piece in PageReader().read(root):
        piece.write(builder)
    return builder.document("", source)


def _choose_forms(root: Any) -> None:
    """Leave one of the forms in which a table or an equation is given."""
    for element in list(root.iter("{*}alternatives")):
        forms = [each for name in FORMS for each in element.iterchildren(f"{{*}}{name}")]
        for other in list(element) if forms else ():
            if other is not forms[0]:
                remove(other)
    for element in root.iter("{*}tex-math"):
        if body := TEX_BODY.search(element.text or ""):  # a document of its own
            element.text = body.group(1).strip()


def _name_structure(root: Any) -> None:
    """Call the elements of DocBook, DITA and JATS as HTML does."""
    for element in list(root.iter("{*}footnote", "{*}fn")):
        blocks = [each for each in element.iterancestors() if local_name(each) in ("para", "p")]
        if blocks:
            move_after(element, blocks[-1])
    for element in list(root.iter()):
        name = local_name(element)
        parent = local_name(element.getparent()) if element is not root else ""
        if name in TITLES and parent in SECTIONS | {"title-group"}:
            above = sum(local_name(e) in SECTIONS - INFO for e in element.iterancestors())
            element.tag = f"h{min(max(above, 1), 6)}"
        elif name == "listitem" and parent == "varlistentry":
            element.tag = "dd"
    for element in list(root.iter()):
        name = local_name(element)
        if name in BLOCKS or name in ("footnote", "fn"):
            element.tag = "div"
        elif name in NAMES:
            element.tag = NAMES[name]
        elif name in TITLES:
            element.tag = "caption" if local_name(element.getparent()) == "table" else "p"
    rename(root, {}, "span")


def _name_texts(root: Any) -> None:
    """Call an element with text a paragraph, and one that holds a record its lines."""
    for element in list(root.iter()):
        name, parent = local_name(element), element.getparent()
        children = list(element)
        is_text = _has_text(element)
        if parent is not None and parent.tag in ("p", "span"):
            if parent.get("record"):
                element.text = f"{name}: {(element.text or '').lstrip()}"
                element.tail = None
                parent.insert(parent.index(element) + 1, element.makeelement("br"))
            element.tag = "span"
        elif is_text:
            element.tag = "p"
        elif len(children) > 1 and all(map(_has_text, children)):
            different = len({child.tag for child in children}) == len(children)
            element.tag = "p" if different else "div"
            if different:
                element.set("record", "yes")
        else:
            element.tag = "div"


def _has_text(element: Any) -> bool:
    """Tell whether there is text between an element's tags and those of its children."""
    texts = (element.text, *(child.tail for child in element))
    return any(text and text.strip() for text in texts)


XML = Loader("xml", "XML", (".xml", ".dita", ".docbook", ".dbk"), load_xml)
