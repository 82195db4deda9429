"""Load reStructuredText (rst): headings, lists, tables, code and the texts of directives."""

import csv
import re
from collections.abc import Sequence

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_styles import number
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.rst_inline import plain_text
from dalm.ingest.loaders.rst_tables import read_grid, read_simple_table
from dalm.ingest.loaders.text import decode

ADORNMENT = re.compile(r"([!-/:-@[-`{-~])\1{2,}$")
UNDERLINE = re.compile(r"([!-/:-@[-`{-~])\1*$")
SHORT = 4  # signs; a longer line below a title may be shorter than the title
LIST_ROW = re.compile(r"[-*+]( +)[-*+](?: +|$)")
DIRECTIVE = re.compile(r"\.\. +(?:\|[^|]*\| +)?([\w:+.-]+?)::(?: +(.*))?$")
FOOTNOTE = re.compile(r"\.\. +(\[[^\]]+\])(?: +(.*))?$")
SUBSTITUTION = re.compile(r"\.\. +\|([^|]+)\| +replace:: *(.*)$")
FIELD = re.compile(r":([^:\s`][^:`]*):(?: +(.*))?$")
ITEM = re.compile(r"( *)([-*+•‣]|\(?(?:\d{1,4}|[a-zA-Z]|[ivxlcIVXLC]+|#)[.)])(?: +(\S.*)|$)")
GRID, SIMPLE = re.compile(r"\+[-=+]{2,}\+$"), re.compile(r"=+( +=+)+$")
CODE = frozenset(
    "code code-block sourcecode parsed-literal prompt highlight console doctest testcode ipython "
    "literal".split()
)
SKIPPED = frozenset(
    "toctree contents index raw meta image default-role currentmodule module highlightlang "
    "sectnum header footer role title container-start tabularcolumns rubric-start target-notes "
    "autosummary sectionauthor codeauthor".split()
)
TAKEN_IN = frozenset(("include", "literalinclude"))
BULLETS = ("-", "*", "+")
DEEPEST = 50  # levels of indentation


def load_rst(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a text without its markup; comments, targets and tables of contents are left out.

    Files that it includes, and what Sphinx makes of code, are reported as unread.
    """
    text = decode(data, options.encoding).expandtabs(8)
    lines = [line.rstrip() for line in text.split("\n")]
    found = filter(None, map(SUBSTITUTION.match, lines))
    reader = _Reader({each.group(1): each.group(2) for each in found})
    reader.read(lines, 0)
    return reader.builder.document("", source)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _dedent(lines: Sequence[str]) -> list[str]:
    margin = min((_indent(line) for line in lines if line), default=0)
    return [line[margin:] for line in lines]


class _Reader:
    """Read blocks of lines; headings are as deep as their adornment was the n-th to be used."""

    def __init__(self, replaced: dict[str, str]) -> None:
        self.builder = DocumentBuilder()
        self.replaced = replaced
        self.adornments: list[str] = []

    def read(self, lines: Sequence[str], depth: int) -> None:
        """Add the blocks of these lines to the document."""
        at = 0
        while at < len(lines):
            if not lines[at]:
                at += 1
            elif lines[at].startswith(" "):
                at = self._indented(lines, at, depth)
            else:
                at = self._block(lines, at, depth)

    def _indented(self, lines: Sequence[str], at: int, depth: int) -> int:
        end = _end_of_indented(lines, at)
        body = _dedent(lines[at:end])
        if depth < DEEPEST:
            self.read(body, depth + 1)
        else:
            self.builder.paragraph("\n".join(body))
        return end

    def _block(self, lines: Sequence[str], at: int, depth: int) -> int:
        line = lines[at]
        below = lines[at + 1] if at + 1 < len(lines) else ""
        if GRID.match(line) or SIMPLE.match(line):
            return self._table(lines, at)
        if ADORNMENT.match(line):
            return self._overlined(lines, at)
        if UNDERLINE.match(below) and len(below) >= min(len(line.strip()), SHORT):
            self._heading(below[0], line)
            return at + 2
        if line.startswith("..") and (line == ".." or line[2:3] == " "):
            return self._explicit(lines, at, depth)
        if ITEM.match(line) and _is_list(lines, at):
            return self._list(lines, at, depth)
        return self._paragraph(lines, at, depth)

    def _heading(self, adornment: str, title: str) -> None:
        if adornment not in self.adornments:
            self.adornments.append(adornment)
        level = min(self.adornments.index(adornment) + 1, 6)
        self.builder.heading(plain_text(title, self.replaced), level)

    def _overlined(self, lines: Sequence[str], at: int) -> int:
        """Read a title between two lines of signs; one such line alone parts paragraphs."""
        if at + 2 < len(lines) and lines[at + 1] and lines[at + 2][:3] == lines[at][:3]:
            self._heading(lines[at][:1] * 2, lines[at + 1])
            return at + 3
        return at + 1

    def _paragraph(self, lines: Sequence[str], at: int, depth: int) -> int:
        end = at
        while end < len(lines) and lines[end] and (end == at or not lines[end].startswith(" ")):
            end += 1
        text = "\n".join(lines[at:end])
        if end == at + 1 and end < len(lines) and lines[end].startswith(" "):
            return self._definition(lines, at, depth)
        if text.startswith(">>> "):
            self.builder.code(text)
            return end
        fields = [found for each in lines[at:end] if (found := FIELD.match(each))]
        if len(fields) == end - at:
            text = "\n".join(f"{each.group(1)}: {each.group(2) or ''}" for each in fields)
        shown = text.removesuffix("::") + ":" * (text.endswith("::") and text[-3:-2].strip() != "")
        shown = "\n".join(line.removeprefix("| ") for line in shown.split("\n"))
        self.builder.paragraph(plain_text(shown, self.replaced))
        if text.endswith("::"):
            return self._literal(lines, end)
        return end

    def _literal(self, lines: Sequence[str], at: int) -> int:
        start = at
        while start < len(lines) and not lines[start]:
            start += 1
        end = _end_of_indented(lines, start) if start < len(lines) else start
        if end > start:
            self.builder.code("\n".join(_dedent(lines[start:end])))
            return end
        return at

    def _definition(self, lines: Sequence[str], at: int, depth: int) -> int:
        end = _end_of_indented(lines, at + 1)
        body = _dedent(lines[at + 1 : end])
        found = FIELD.match(lines[at])
        term = ": ".join(filter(None, found.groups())) if found else lines[at]
        if all(body) and not any(ITEM.match(each) or each.startswith("..") for each in body):
            gap = " " if found else ": "
            self.builder.paragraph(plain_text(term + gap + " ".join(body), self.replaced))
            return end
        self.builder.paragraph(plain_text(term, self.replaced))
        return self._indented(lines, at + 1, depth)

    def _explicit(self, lines: Sequence[str], at: int, depth: int) -> int:
        if lines[at] == ".." and not any(lines[at + 1 : at + 2]):
            return at + 1  # an empty comment
        end = _end_of_indented(lines, at + 1)
        body = _dedent(lines[at + 1 : end])
        if found := DIRECTIVE.match(lines[at]):
            self._directive(found.group(1), found.group(2) or "", body, depth)
        elif found := FOOTNOTE.match(lines[at]):
            text = " ".join(filter(None, [found.group(2), *body]))
            self.builder.paragraph(plain_text(f"{found.group(1)} {text}", self.replaced))
        return end  # else a comment or a target

    def _directive(self, name: str, argument: str, body: list[str], depth: int) -> None:
        options: dict[str, str] = {}
        while body and (found := FIELD.match(body[0])):
            options[found.group(1)] = found.group(2) or ""
            body = body[1:]
        name = name.rpartition(":")[2].lower()
        if name in TAKEN_IN:
            self.builder.lose(f"included file {argument}", "it is not read here")
        elif name.startswith("auto") and name != "autosummary":
            self.builder.lose(f"text that {name} makes of code", "read the built pages")
        elif name == "math":
            self.builder.paragraph(" ".join(filter(None, [argument, *body])))
        elif name in CODE:
            self.builder.paragraph(plain_text(options.get("caption", ""), self.replaced))
            self.builder.code("\n".join(_dedent(body)))
        elif name in ("list-table", "csv-table"):
            self.builder.paragraph(plain_text(argument, self.replaced))
            if taken_in := options.get("file") or options.get("url"):
                self.builder.lose(f"included file {taken_in}", "it is not read here")
            self._data_table(name, options, body)
        elif name not in (*SKIPPED, "replace"):
            text = f"{name.title()}: {argument}" if name in ("note", "warning", "tip") else argument
            self.builder.paragraph(plain_text(text, self.replaced) if name != "figure" else "")
            if depth < DEEPEST:
                self.read(body, depth + 1)

    def _data_table(self, name: str, options: dict[str, str], body: list[str]) -> None:
        header = number(options.get("header-rows", ""))
        rows: list[list[str]] = []
        if name == "csv-table":
            delimiter = options.get("delim", ",")[:1] or ","
            delimiter = {"t": "\t", "s": " "}.get(delimiter, delimiter)
            named = [options["header"]] if options.get("header") else []
            lines = [f"{line}\n" for line in (*named, *body) if line]
            rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
            header += len(named)
        margin = 0
        for line in body if name == "list-table" else ():
            if found := LIST_ROW.match(line):
                margin = 1 + len(found.group(1))
                rows.append([line[margin + 1 :].strip()])
            elif rows and _indent(line) == margin and line[margin : margin + 2].strip() in BULLETS:
                rows[-1].append(line[margin + 1 :].strip())
            elif line and rows:
                rows[-1][-1] += f" {line.strip()}"
            elif line:
                self.builder.paragraph(line)
        shown = [[plain_text(cell, self.replaced) for cell in row] for row in rows]
        self.builder.table(shown, header or None)

    def _table(self, lines: Sequence[str], at: int) -> int:
        read = read_grid if GRID.match(lines[at]) else read_simple_table
        rows, header, end = read(lines, at)
        shown = [[plain_text(cell, self.replaced) for cell in row] for row in rows]
        self.builder.table(shown, header or None)
        return end

    def _item(self, lines: Sequence[str], at: int, depth: int) -> int:
        """Read an item with blocks in it: its first line is a paragraph, and the blocks follow."""
        found = ITEM.match(lines[at])
        assert found is not None
        end = _end_of_indented(lines, at + 1)
        first, body = found.group(3) or "", _dedent(lines[at + 1 : end])
        shown = f"{_mark(found.group(2))} {first[:-1] if first.endswith('::') else first}"
        self.builder.paragraph(plain_text(shown, self.replaced))
        if first.endswith("::"):
            self._literal([f" {line}" if line else "" for line in body], 0)
        elif depth < DEEPEST:
            self.read(body, depth + 1)
        return end

    def _list(self, lines: Sequence[str], at: int, depth: int) -> int:
        end = _end_of_list(lines, at)
        block = lines[at:end]
        if any(line.endswith("::") or line.lstrip().startswith(".. ") for line in block):
            return self._item(lines, at, depth)
        items: list[str] = []
        margins: list[int] = []
        for line in block:
            if found := ITEM.match(line):
                margin = len(found.group(1))
                margins = [each for each in margins if each < margin] + [margin]
                shown = "  " * (len(margins) - 1)
                items.append(f"{shown}{_mark(found.group(2))} {found.group(3) or ''}")
            elif line and items:
                items[-1] += f" {line.strip()}"
        self.builder.items([_item_text(item, self.replaced) for item in items])
        return end


def _mark(sign: str) -> str:
    return "-" if sign in "-*+•‣" else sign


def _item_text(item: str, replaced: dict[str, str]) -> str:
    margin = _indent(item)
    return " " * margin + plain_text(item[margin:], replaced)


def _end_of_indented(lines: Sequence[str], at: int) -> int:
    """Return where the lines that are indented or empty end; empty ones at the end are left."""
    end = at
    while end < len(lines) and (not lines[end] or lines[end].startswith(" ")):
        end += 1
    while end > at and not lines[end - 1]:
        end -= 1
    return end


def _is_list(lines: Sequence[str], at: int) -> bool:
    """Tell an item from a sentence that begins like one: the next line is indented, or an item."""
    below = lines[at + 1] if at + 1 < len(lines) else ""
    return not below or below.startswith(" ") or bool(ITEM.match(below))


def _end_of_list(lines: Sequence[str], at: int) -> int:
    end = at
    while end < len(lines) and (
        not lines[end] or lines[end].startswith(" ") or ITEM.match(lines[end])
    ):
        end += 1
    while end > at and not lines[end - 1]:
        end -= 1
    return end


RST = Loader("rst", "reStructuredText", (".rst", ".rest"), load_rst)
