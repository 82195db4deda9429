"""Write the paragraphs of a PDF as one text, with its headings, blocks and page offsets."""

import re
from collections.abc import Iterable, Sequence

from dalm.ingest.loaders.loader import Block, Heading
from dalm.ingest.loaders.pdf_blocks import SENTENCE_END, code_text, table_rows
from dalm.ingest.loaders.pdf_headings import CAPTION
from dalm.ingest.loaders.pdf_paragraphs import NOTE, Kind, Paragraph
from dalm.ingest.loaders.pdf_words import Hyphens, clean, ends_broken

CJK = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
ADDRESS = re.compile(r"(?:https?://|www\.)\S*[/_=&?%]$|https?://www\.$")
MOST_BETWEEN = 16  # paragraphs of a figure or of footnotes


def join_paragraphs(paragraphs: Iterable[Paragraph], body: float) -> list[Paragraph]:
    """Join paragraphs that go on in the next column or on the next page.

    What stands between, such as footnotes and figures, comes before the paragraph if it is on the
    page on which that begins, otherwise behind it, so that pages stay in order.
    """
    found: list[Paragraph] = []
    for paragraph in paragraphs:
        at = _unfinished(found, paragraph, body)
        if at is None:
            found.append(paragraph)
            continue
        one, between = found[at], found[at + 1 :]
        before = [each for each in between if each.page == one.page < paragraph.page]
        after = [each for each in between if each not in before]
        begin = len(one.lines)
        one.breaks |= {begin + each for each in paragraph.breaks}
        one.lines += paragraph.lines
        one.right = paragraph.right
        found[at:] = [*before, one, *after]
    return found


def _unfinished(found: Sequence[Paragraph], paragraph: Paragraph, body: float) -> int | None:
    """Return which of the paragraphs before goes on with this one."""
    for at in range(len(found) - 1, max(-1, len(found) - 1 - MOST_BETWEEN), -1):
        if _goes_on(found[at], paragraph):
            return at
        if found[at].kind is Kind.HEADING or not _stands_between(found[at], paragraph, body):
            return None
    return None


def _stands_between(one: Paragraph, other: Paragraph, body: float) -> bool:
    """Tell whether a paragraph is a footnote or belongs to a figure in the midst of another."""
    if other.kind is not Kind.TEXT or abs(other.size - body) > 0.1 * body:
        return False
    is_small = one.size < NOTE * body or len(one.lines) == 1
    return is_small or one.kind in (Kind.CODE, Kind.TABLE) or bool(CAPTION.match(one.lines[0].text))


def _goes_on(one: Paragraph, other: Paragraph) -> bool:
    prose = (Kind.TEXT, Kind.ITEM)
    if one.kind not in prose or other.kind is not Kind.TEXT:
        return False
    last, first = one.lines[-1], other.lines[0]
    if abs(last.size - first.size) > 0.1 * first.size or last.turned != first.turned:
        return False
    same_place = (
        last.page == first.page
        and 0 < last.bottom - first.bottom < 60
        and (first.left < last.right and last.left < first.right)
    )
    if same_place:  # split for a reason
        return False
    if ends_broken(last):
        return True
    text = last.text
    if SENTENCE_END.search(text) or (not text[-1].isalnum() and text[-1] not in ",;)”’\"'"):
        return False
    begin = first.text[0]
    width = other.right - first.left
    is_prose = last.right - last.left > 0.5 * width or len(one.lines) > 1
    return (begin.islower() and is_prose) or (bool(CJK.match(begin)) and bool(CJK.match(text[-1])))


class TextWriter:
    """Write paragraphs one after the other, and note where everything begins."""

    def __init__(self, hyphens: Hyphens) -> None:
        self.hyphens = hyphens
        self.parts: list[str] = []
        self.length = 0
        self.headings: list[Heading] = []
        self.blocks: list[Block] = []
        self.page_starts: dict[int, int] = {}

    def write(self, paragraphs: Sequence[Paragraph]) -> None:
        """Write paragraphs; items of a list that follow each other are a block."""
        items: list[int] = []
        for paragraph in paragraphs:
            is_item = paragraph.kind is Kind.ITEM
            if items and not is_item:
                self._end_list(items)
            start = self._begin("\n" if items else "\n\n")
            match paragraph.kind:
                case Kind.CODE:
                    texts = [clean(each) for each in code_text(paragraph.lines)]
                    self._write_units(paragraph, texts)
                case Kind.TABLE:
                    texts = [clean(each) for each in table_rows(paragraph.lines)]
                    self._write_units(paragraph, texts)
                case Kind.HEADING:
                    text = self._write_lines(paragraph)
                    level = paragraph.lines[0].level
                    self.headings.append(Heading(start, self.length, level, text))
                case _:
                    self._write_lines(paragraph)
            if is_item:
                items.append(start)
        self._end_list(items)

    def _end_list(self, items: list[int]) -> None:
        if len(items) > 1:
            self.blocks.append(Block(items[0], self.length, tuple(items)))
        items.clear()

    def _begin(self, between: str) -> int:
        if self.length:
            self._append(between)
        return self.length

    def _append(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    def _write_units(self, paragraph: Paragraph, texts: Sequence[str]) -> None:
        """Write lines of code or rows of a table, each a unit."""
        starts, header_end = [], 0
        header = _has_header(paragraph)
        self.page_starts.setdefault(paragraph.lines[0].page, self.length)
        for i, text in enumerate(texts):
            if i:
                self._append("\n")
            starts.append(self.length)
            self._append(text)
            if header and not i:
                header_end = self.length
        if len(starts) > 1:
            self.blocks.append(Block(starts[0], self.length, tuple(starts), header_end))

    def _write_lines(self, paragraph: Paragraph) -> str:
        """Write lines as running text, and return it."""
        first, lines = len(self.parts), paragraph.lines
        for i, line in enumerate(lines):
            self.page_starts.setdefault(line.page, self.length)
            following = clean(lines[i + 1].text) if i + 1 < len(lines) else ""
            broken = bool(following) and ends_broken(line)
            text = clean(line.text[:-1] if broken and not line.hyphen else line.text)
            self._append(text)
            if broken:
                self._append(self.hyphens.between(text, following))
            elif following:
                kept = i + 1 in paragraph.breaks and paragraph.kind is not Kind.HEADING
                self._append("\n" if kept else _space(text, following))
        return "".join(self.parts[first:])

    def pages(self, count: int) -> tuple[int, ...]:
        """Return the offsets at which pages begin; one without text begins where the next does."""
        starts, after = [], self.length
        for page in reversed(range(count)):
            after = self.page_starts.get(page, after)
            starts.append(after)
        return tuple(reversed(starts))


def _space(text: str, following: str) -> str:
    """Return what is between two lines: nothing in an address, and in scripts without spaces."""
    if CJK.match(text[-1:]) and CJK.match(following):
        return ""
    return "" if ADDRESS.search(text) and not following[0].isupper() else " "


def _has_header(paragraph: Paragraph) -> bool:
    """Tell whether a table's first row alone is bold."""
    if paragraph.kind is not Kind.TABLE:
        return False
    first, *others = (line for line in paragraph.lines if len(line.cells) > 1)
    return first.bold and not any(line.bold for line in others)
