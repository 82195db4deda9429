"""Join the lines of a PDF into paragraphs, lists, rows of tables and code."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise

from dalm.ingest.loaders.pdf_blocks import (
    SENTENCE_END,
    continues_code,
    follows,
    is_code,
    table_lines,
)
from dalm.ingest.loaders.pdf_lines import Line

MARK = re.compile(
    r"(?P<sign>[•◦▪‣●○■□❖➢✓–—*·-])(?:\s|$)|(?P<bullet>[•▪‣●■❖➢])"
    r"|(?P<number>\d{1,3})[.)]\s|(?P<letter>\(?(?:[a-z]|[ivx]{1,4})\)|[ivx]{1,4}\.)\s"
)
WIDE_PITCH = 1.25  # times the usual distance of two lines: a paragraph ends
DASHES = "-–—*·"  # begin an item, or stand at a line's begin in a sentence
SAME_EDGE = 2.0  # points
INDENT = 0.7  # of the font's size
NOTE = 0.93  # of the body's size: footnotes are smaller


class Kind(Enum):
    """What lines are joined to."""

    TEXT = auto()
    ITEM = auto()
    HEADING = auto()
    CODE = auto()
    TABLE = auto()


@dataclass(slots=True)
class Paragraph:
    """Lines that belong together; `breaks` are those before which the line end is kept."""

    kind: Kind
    lines: list[Line]
    right: float = 0.0
    """Where the lines of its column end."""
    breaks: set[int] = field(default_factory=set)

    @property
    def size(self) -> float:
        """Return the size of its font."""
        return self.lines[0].size

    @property
    def page(self) -> int:
        """Return the page on which it begins."""
        return self.lines[0].page


def paragraphs_of(lines: Sequence[Line], *, mono_body: bool = False) -> Iterator[Paragraph]:
    """Yield the paragraphs of a page, whose lines come in reading order."""
    tables = table_lines(lines)
    i = 0
    while i < len(lines):
        end = i + 1
        if i in tables:
            end = tables[i]
            yield Paragraph(Kind.TABLE, list(lines[i:end]))
        elif lines[i].level:
            while end < len(lines) and _continues_heading(lines[end - 1], lines[end]):
                end += 1
            yield Paragraph(Kind.HEADING, list(lines[i:end]))
        elif not mono_body and is_code(lines, i):
            while end < len(lines) and end not in tables and continues_code(lines, end):
                end += 1
            yield Paragraph(Kind.CODE, list(lines[i:end]))
        else:
            while (
                end < len(lines)
                and end not in tables
                and not lines[end].level
                and (mono_body or not is_code(lines, end))
                and follows(lines[end - 1], lines[end])
            ):
                end += 1
            yield from _Run(lines[i:end]).paragraphs()
        i = end


def _continues_heading(one: Line, other: Line) -> bool:
    return (
        one.level == other.level
        and (one.size, one.font) == (other.size, other.font)
        and follows(one, other)
    )


# Prose


class _Run:
    """Lines below each other in a column: where paragraphs and items begin among them."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.right = max(line.right for line in lines)
        steps = sorted(a.bottom - b.bottom for a, b in pairwise(lines))
        self.pitch = steps[len(steps) // 4] if steps else 0.0
        self.number = 0

    def paragraphs(self) -> Iterator[Paragraph]:
        """Yield the paragraphs and items."""
        found = Paragraph(self._kind(0, Kind.TEXT), [self.lines[0]], self.right)
        for i in range(1, len(self.lines)):
            kind = self._kind(i, found.kind)
            if kind is Kind.ITEM or self._begins_paragraph(i, found):
                yield found
                found = Paragraph(kind, [self.lines[i]], self.right)
                continue
            if not self._is_full(i - 1):
                found.breaks.add(len(found.lines))
            found.lines.append(self.lines[i])
        yield found

    def _kind(self, i: int, before: Kind) -> Kind:
        """Return whether an item begins with a line; `before` is what the line above belongs to."""
        mark = MARK.match(self.lines[i].text)
        if not mark:
            return Kind.TEXT
        number = int(mark["number"] or 0)
        if i and mark["number"] and not self._counts(number, i):
            return Kind.TEXT
        is_dash = i and mark["sign"] and mark["sign"] in DASHES and before is not Kind.ITEM
        if is_dash and self._is_full(i - 1) and not self._ends_sentence(i - 1):
            return Kind.TEXT
        self.number = number or self.number
        return Kind.ITEM

    def _counts(self, number: int, i: int) -> bool:
        """Tell whether a number at a line's begin counts items, and is no part of a sentence."""
        begins = self._ends_sentence(i - 1) or self._stands_off(i)
        return number == self.number + 1 if self.number else begins

    def _ends_sentence(self, i: int) -> bool:
        return SENTENCE_END.search(self.lines[i].text) is not None

    def _stands_off(self, i: int) -> bool:
        return self.lines[i - 1].bottom - self.lines[i].bottom > WIDE_PITCH * self.pitch

    def _is_full(self, i: int) -> bool:
        """Tell whether a line ends because the next word didn't fit into it."""
        line, first = self.lines[i], self.lines[i + 1].cells[0]
        word = len(first.text.partition(" ")[0])
        width = (first.right - first.left) * word / max(1, len(first.text))
        return line.hyphen or self.right - line.right <= 1.15 * width + 0.8 * line.size

    def _begins_paragraph(self, i: int, paragraph: Paragraph) -> bool:
        above, line = self.lines[i - 1], self.lines[i]
        if above.hyphen:
            return False
        full, ends = self._is_full(i - 1), self._ends_sentence(i - 1)
        shift = line.left - above.left
        if self._stands_off(i) or (not full and ends):
            return True
        if shift > INDENT * line.size:  # of a first line, unless the next ones hang below it
            hangs = i + 1 < len(self.lines) and abs(self.lines[i + 1].left - line.left) < SAME_EDGE
            return not full or not (hangs or paragraph.kind is Kind.ITEM or not ends)
        if -shift > INDENT * line.size:
            return len(paragraph.lines) > 1 or not full
        return False
