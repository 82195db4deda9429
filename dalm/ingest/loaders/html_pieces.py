"""Read a web page's elements into paragraphs, headings, tables, lists and code."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from lxml import etree

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_styles import format_number, number
from dalm.ingest.loaders.html_sizes import LISTS, is_link
from dalm.ingest.loaders.linear_math import LinearMath

BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main menu "
    "nav ol option p pre section select summary table tbody td textarea tfoot th thead title tr "
    "ul".split()
)
LEVELS = {f"h{level}": level for level in range(1, 7)}
TERMS = {"dt": "item", "summary": "item", "figcaption": "caption"}
CELLS = ("td", "th")
CELL_LENGTH = 800  # characters; a longer cell of a table without `th` is a column of the page
DEFINITION_LENGTH = 300  # characters; longer ones are paragraphs
MOST_COLUMNS = 1000
SPACE = re.compile(r"\s+")
LINE_NUMBERS = frozenset(("lineno", "linenos"))
"""Classes of the numbers that Pygments, Rouge and the like put before lines of code."""
SOFT_HYPHEN = "\u00ad"  # where a word may be broken
EXPONENT = re.compile(r"[-+\N{MINUS SIGN}]?\d+$")


@dataclass(slots=True)
class HtmlPiece:
    """A paragraph, heading, table, list, code, caption, or an item or term alone.

    `linked` of its text's characters are links.
    """

    kind: str
    text: str
    linked: int = 0
    level: int = 0
    rows: list[list[str]] = field(default_factory=list)
    header_rows: int | None = None
    items: list[str] = field(default_factory=list)
    has_math: bool = False

    def write(self, builder: DocumentBuilder) -> None:
        """Add it to a document."""
        match self.kind:
            case "heading":
                builder.heading(self.text, self.level)
            case "table":
                builder.table(self.rows, self.header_rows)
            case "list":
                builder.items(self.items)
            case "code":
                builder.code(self.text)
            case _:
                builder.paragraph(self.text)


class Line:
    """Text of a block as browsers show it: white space is one space, `br` a line end."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.linked = 0
        self.has_math = False

    def add(
        self, text: str | None, linked: bool = False, raised: bool = False, anchored: bool = False
    ) -> None:
        """Add text; an exponent keeps its mark (`10^6`, not 106), a note's number gets one."""
        if text:
            if raised and EXPONENT.match(text.strip()) and self.parts:
                if anchored:
                    text = f"[{text.strip()}]"
                elif self.parts[-1][-1:].isdigit():
                    text = f"^{text}"
            self.parts.append(SPACE.sub(" ", text.replace(SOFT_HYPHEN, "")))
            self.linked += len(text) if linked else 0

    def take(self) -> str:
        """Return the text and begin another."""
        lines = "".join(self.parts).split("\n")
        self.parts, self.linked, self.has_math = [], 0, False
        return "\n".join(" ".join(line.split()) for line in lines).strip()


def walk_text(
    element: Any, line: Line, begin: Callable[[Any], bool], finish: Callable[[Any], None]
) -> None:
    """Add an element's text to a line; `begin` may read an element itself, by returning True."""
    walk = etree.iterwalk(element, events=("start", "end"))
    links = raised = anchors = 0
    read: set[Any] = set()
    for event, each in walk:
        tag = each.tag
        if event == "start":
            if tag == "math":
                line.has_math = True
                line.add(math_text(each), bool(links))
            elif not begin(each):
                links += is_link(each)
                raised += tag == "sup"
                anchors += tag == "a"
                if tag == "br":
                    line.parts.append("\n")
                line.add(each.text, bool(links), bool(raised), bool(anchors))
                continue
            read.add(each)
            walk.skip_subtree()
            continue
        if each in read:
            read.discard(each)
        else:
            links -= is_link(each)
            raised -= tag == "sup"
            anchors -= tag == "a"
            finish(each)
        if each is not element:
            line.add(each.tail, bool(links))


def flat_text(element: Any) -> tuple[str, int]:
    """Return an element's text as one line, and how many of its characters are links."""
    line = Line()

    def space(each: Any) -> bool:
        if each.tag in BLOCKS:
            line.add(" ")
        return False

    walk_text(element, line, space, lambda each: line.add(" ") if each.tag in BLOCKS else None)
    linked = line.linked
    return " ".join(line.take().split()), linked


def math_text(element: Any) -> str:
    """Return an equation as a line of text: its MathML, else the TeX that it comes with."""
    math = LinearMath()
    text = ""
    for event, each in etree.iterwalk(element, events=("start", "end")):
        if event == "start":
            math.start(str(each.tag).rpartition(":")[2], dict(each.attrib))
            math.data(each.text or "")
        else:
            text = math.end()
            if each is not element:
                math.data(each.tail or "")
    return text or element.get("alttext", "") or " ".join("".join(element.itertext()).split())


class PageReader:
    """Read the pieces of a page."""

    def __init__(self) -> None:
        self.pieces: list[HtmlPiece] = []
        self.line = Line()
        self.level = 0
        self.marks = ListMarks()  # of the lists that are read block by block
        self.mark = ""
        self.term = ""  # the kind of what is read

    def read(self, page: Any) -> list[HtmlPiece]:
        """Return an element's pieces in order."""
        walk_text(page, self.line, self._begin, self._finish)
        self._flush()
        return self.pieces

    def _begin(self, element: Any) -> bool:
        tag = element.tag
        if tag in BLOCKS:
            self._flush()
        if tag == "pre":
            self._code(element)
        elif tag == "table" and is_data_table(element):
            self._table(element)
        elif tag in LISTS and is_plain(element):
            self._list(element)
        elif tag == "dl" and is_glossary(element):
            self._glossary(element)
        else:
            self.level = LEVELS.get(tag, self.level)
            self.term = self.term or TERMS.get(tag, "")
            if tag == "li":
                self.mark = self.marks.next(element).strip()
            elif tag in LISTS:
                self.marks.begin(element)
            return False
        return True

    def _finish(self, element: Any) -> None:
        if element.tag in BLOCKS:
            self._flush()
        if element.tag in TERMS:
            self.term = ""
        if element.tag in LEVELS:
            self.level = 0
        elif element.tag in LISTS:
            self.marks.end()

    def _flush(self) -> None:
        linked, has_math = self.line.linked, self.line.has_math
        text = self.line.take()
        if not text:
            return
        mark, self.mark = self.mark, ""
        kind = "heading" if self.level else "item" if mark else self.term or "paragraph"
        shown = f"{mark} {text}".strip()
        self.pieces.append(HtmlPiece(kind, shown, linked, self.level, has_math=has_math))

    def _code(self, element: Any) -> None:
        for br in element.iter("br"):
            br.tail = f"\n{br.tail or ''}"
        for each in element.iter("span"):
            if LINE_NUMBERS.intersection(each.get("class", "").split()):
                each.text = None
        text = "".join(element.itertext())
        if text.strip() and not _numbers_lines(text.split()):
            self.pieces.append(HtmlPiece("code", text))

    def _table(self, element: Any) -> None:
        for caption in element.iterchildren("caption"):
            self.pieces.append(HtmlPiece("paragraph", flat_text(caption)[0]))
        if beside := text_outside(element, (*CELLS, "caption")):  # browsers show it above
            self.pieces.append(HtmlPiece("paragraph", beside))
        rows, header_rows, linked = read_table(element)
        text = " ".join(cell for row in rows for cell in row)
        self.pieces.append(HtmlPiece("table", text, linked, 0, rows, header_rows))

    def _list(self, element: Any) -> None:
        items, linked = read_list(element)
        self.pieces.append(HtmlPiece("list", " ".join(items), linked, items=items))

    def _glossary(self, element: Any) -> None:
        items: list[str] = []
        for each in element.iter("dt", "dd"):
            text = flat_text(each)[0]
            if each.tag == "dt" or not items:
                items.append(text)
            elif text:
                items[-1] += f" {text}" if items[-1].endswith((":", ";")) else f": {text}"
        self.pieces.append(HtmlPiece("list", " ".join(items), items=items))


def _numbers_lines(words: Sequence[str]) -> bool:
    """Tell whether words are the numbers of the lines of code that stands beside them."""
    if len(words) < 2 or not all(map(str.isdecimal, words)):
        return False
    return all(int(b) - int(a) == 1 for a, b in pairwise(words))


def text_outside(element: Any, tags: Collection[str]) -> str:
    """Return what of an element's text is in none of these elements in it."""
    line = Line()

    def begin(each: Any) -> bool:
        line.add(" ")
        return each.tag in tags

    walk_text(element, line, begin, lambda _: line.add(" "))
    return " ".join(line.take().split())


def is_plain(element: Any) -> bool:
    """Tell whether a list's items are text and lists."""
    return next(element.iter("pre", "table", "dl", "blockquote", *LEVELS), None) is None


def is_glossary(element: Any) -> bool:
    """Tell whether a list of definitions has short ones of text."""
    structured = next(element.iterdescendants("pre", "table", "dl", *LISTS, *LEVELS), None)
    return (
        structured is None
        and all(len(flat_text(each)[0]) <= DEFINITION_LENGTH for each in element.iter("dd"))
        and not text_outside(element, ("dt", "dd"))
    )


def is_data_table(element: Any) -> bool:
    """Tell whether a table is one, and not the layout of a page."""
    if element.get("role", "") in ("presentation", "none"):
        return False
    if next(element.iterdescendants("table", "pre", *LEVELS), None) is not None:
        return False
    rows = [cells_of(row) for row in element.iter("tr")]
    if max(map(len, rows), default=0) < 2:
        return False
    has_header = next(element.iter("th", "thead"), None) is not None
    cells = [cell for row in rows for cell in row]
    return has_header or all(len("".join(cell.itertext())) <= CELL_LENGTH for cell in cells)


def cells_of(row: Any) -> list[Any]:
    """Return a row's cells, also those of a form that is put between the row and its cells."""
    cells = row.iterdescendants(*CELLS)
    return [cell for cell in cells if next(cell.iterancestors(*CELLS, "tr")) is row]


def read_table(element: Any) -> tuple[list[list[str]], int | None, int]:
    """Return a table's rows of cells, how many are its header, and how much of it are links.

    A cell over several rows is in each of them; one over several columns is followed by empty ones.
    """
    rows: list[list[str]] = []
    header, linked = 0, 0
    below: dict[int, tuple[str, int]] = {}  # by column: the text that goes on, for so many rows
    for row in element.iter("tr"):
        cells = cells_of(row)
        in_head = row.getparent().tag == "thead" or all(cell.tag == "th" for cell in cells)
        line: list[str] = []
        for cell in [*cells, None]:
            while len(line) in below:
                text, left = below.pop(len(line))
                if left > 1:
                    below[len(line)] = text, left - 1
                line.append(text)
            if cell is not None:
                text, of_links = flat_text(cell)
                linked += of_links
                rowspan = min(number(cell.get("rowspan", ""), 1), MOST_COLUMNS)
                if rowspan > 1:
                    below[len(line)] = text, rowspan - 1
                span = min(max(number(cell.get("colspan", ""), 1), 1), MOST_COLUMNS)
                line += [text, *[""] * (span - 1)]
        header += in_head and header == len(rows)
        rows.append(line)
    return rows, header or None, linked


class ListMarks:
    """Count the items of the lists that are open."""

    def __init__(self) -> None:
        self.open: list[tuple[str, int]] = []  # the kind of number, and the last one

    def begin(self, element: Any) -> None:
        """Begin a list."""
        kind = element.get("type", "1") if element.tag == "ol" else ""
        self.open.append((kind, number(element.get("start", ""), 1) - 1))

    def end(self) -> None:
        """End the innermost list."""
        self.open.pop()

    def next(self, item: Any) -> str:
        """Return the mark of the next item, indented by two spaces a level."""
        if not self.open:
            return "- "
        kind, count = self.open[-1]
        count = number(item.get("value", ""), count + 1)
        self.open[-1] = kind, count
        mark = f"{format_number(count, kind)}." if kind else "-"
        return f"{'  ' * (len(self.open) - 1)}{mark} "


def read_list(element: Any) -> tuple[list[str], int]:
    """Return the items of a list and the lists in it, with their marks, and how much are links."""
    line, items, marks = Line(), list[str](), ListMarks()
    linked, mark = 0, ""

    def take() -> None:
        nonlocal linked, mark
        linked += line.linked
        if text := " ".join(line.take().split()):
            items.append(f"{mark or '  ' * len(marks.open)}{text}")
            mark = ""

    def begin(each: Any) -> bool:
        nonlocal mark
        if each.tag in LISTS:
            take()
            marks.begin(each)
        elif each.tag == "li":
            take()
            mark = marks.next(each)
        elif each.tag in BLOCKS:
            line.add(" ")
        return False

    def finish(each: Any) -> None:
        if each.tag in LISTS:
            take()
            marks.end()
        elif each.tag == "li":
            take()
        elif each.tag in BLOCKS:
            line.add(" ")

    walk_text(element, line, begin, finish)
    take()
    return items, linked
