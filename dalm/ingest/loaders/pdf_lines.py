"""Read the lines of a PDF page: their cells, their places on the page, their fonts."""

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from dalm.ingest.loaders.symbol_fonts import PRIVATE, decode_symbols

# PDFium writes U+FFFE, or U+0002, for the hyphen of a word broken at a line's end, and joins the
# lines.
LINE = re.compile("[^\r\n\ufffe\x02]+[\ufffe\x02]?|[\ufffe\x02]")
WORD = re.compile(r"\S+")
BROKEN_WORD = "\ufffe\x02"
NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ue000-\uf8ff\ufffc-\uffff\U000f0000-\U0010ffff]")
SURROGATE = re.compile("[\ud800-\udfff]")
MARK = re.compile(r"[^\w\s]")
OWN_BULLET = re.compile(rf"^{NO_TEXT.pattern}(?=[ \t]+\S)")
"""A bullet of a font without a map to Unicode."""
FONT_NAME = re.compile(r"symbol|webdings|wingdings[23]?")
CELL_GAP = 1.2  # of the font's size: a wider gap parts cells; justified text rarely has one
GLUED = 0.15  # of the font's size: a smaller gap parts no words
SMALLER = 0.85  # times the height of the letters beside it: a sub- or superscript
INDEX = re.compile(r"[-−+]?\d+[-−+]?(?!\w)|\d[A-Z]")  # of a chemical formula, of a unit
POWER = re.compile(r"[\d.,]*\d[-−–+]?\d+")
BOLD = re.compile(r"bold|black|heavy|demi|medi(?!um)|cmb|cmssb|bx\d|[-.,]b$", re.IGNORECASE)
MONOSPACED = re.compile(
    r"mono|courier|typewriter|consol|menlo|code|cmtt|cmsltt|tt\d|nimbusmonl|fixed", re.IGNORECASE
)
FIXED_PITCH = 1  # a flag of a font's descriptor


class Place(NamedTuple):
    """The box of a character."""

    left: float
    bottom: float
    right: float
    top: float

    def is_unlike(self, other: "Place") -> bool:
        """Tell whether one of two characters is a sub- or superscript beside the other."""
        one, height = self.top - self.bottom, other.top - other.bottom
        return min(one, height) < SMALLER * max(one, height)


class Cell(NamedTuple):
    """A run of words in a line, without a wide gap."""

    text: str
    left: float
    right: float


@dataclass(slots=True, eq=False)
class Line:
    """A line of a page, in points from the page's lower left corner; `turned` if it isn't upright.

    `hyphen` says that its last word is broken, without the hyphen in the text. Equal is a line to
    itself alone, so that lines can be collected in sets.
    """

    cells: list[Cell]
    bottom: float
    top: float
    size: float
    font: str = ""
    bold: bool = False
    mono: bool = False
    uniform: bool = True
    """Its first and its last letter are in the same font."""
    hyphen: bool = False
    turned: bool = False
    page: int = 0
    level: int = 0
    """Of the heading that it is; 0 if it is none."""

    @property
    def text(self) -> str:
        """Return its cells' texts, parted by spaces."""
        return (
            " ".join(cell.text for cell in self.cells)
            if len(self.cells) > 1
            else self.cells[0].text
        )

    @property
    def left(self) -> float:
        """Return where it begins."""
        return min(cell.left for cell in self.cells)

    @property
    def right(self) -> float:
        """Return where it ends."""
        return max(cell.right for cell in self.cells)


@cache
def _font_style(name: str, flags: int) -> tuple[bool, bool]:
    """Return whether a font is bold and whether it is monospaced."""
    name = name.partition("+")[2] or name
    return bool(BOLD.search(name)), bool(flags & FIXED_PITCH or MONOSPACED.search(name))


def _with_pairs(word: str) -> str:
    """Return a word whose surrogates, which PDFium counts one by one, are put together in pairs."""
    if word.isascii() or not SURROGATE.search(word):
        return word
    return word.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class LineReader:
    """Read a page's lines through PDFium's functions, which are called as rarely as can be."""

    def __init__(self, text_page: Any) -> None:
        import pypdfium2.raw as pdfium

        self.pdfium, self.raw = pdfium, text_page.raw
        self._box, self._matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
        self._box_reference = ctypes.byref(self._box)
        self._name, self._flags = ctypes.create_string_buffer(96), ctypes.c_int()
        self.text = self._read_text(text_page)

    def _read_text(self, text_page: Any) -> str:
        """Return a character for each of the page's, private ones by their fonts."""
        count = text_page.count_chars()
        text: str = text_page.get_text_range()
        if len(text) != count:  # characters without a code are left out of it
            get = self.pdfium.FPDFText_GetUnicode
            text = "".join(chr(get(self.raw, i)) for i in range(count))
        return PRIVATE.sub(self._decode, text) if PRIVATE.search(text) else text

    def _decode(self, match: re.Match[str]) -> str:
        name = self._font(match.start())[1].rpartition("+")[2].lower()
        font = FONT_NAME.match(name)
        decoded = (
            decode_symbols(match.group(), font.group().replace("wingdings", "wingdings ").strip())
            if font
            else ""
        )
        return decoded if len(decoded) == 1 else match.group()

    def lines(self, page: int) -> list[Line]:
        """Return the page's lines in the order in which it draws them."""
        turns = Counter[int]()
        found = []
        for match in LINE.finditer(self.text):
            turn = self._turn(match.start())
            turns[turn] += len(match.group())
            found.append((match, turn))
        upright = turns.most_common(1)[0][0] if turns else 0
        lines = []
        for match, turn in found:
            for line in self._lines_of(match, turn):
                line.page, line.turned = page, turn != upright
                lines.append(line)
        return lines

    def _turn(self, index: int) -> int:
        """Return by how many quarters of a circle a character is turned."""
        angle: float = self.pdfium.FPDFText_GetCharAngle(self.raw, index)
        return round(angle / (math.pi / 2)) % 4 if angle > 0 else 0

    def _place(self, index: int, turn: int) -> Place:
        """Return where a character is, as if the page were turned upright."""
        self.pdfium.FPDFText_GetLooseCharBox(self.raw, index, self._box_reference)
        box = self._box
        left, bottom, right, top = box.left, box.bottom, box.right, box.top
        if not turn:
            return Place(left, bottom, right, top)
        match turn:
            case 3:  # counted clockwise
                return Place(bottom, -right, top, -left)
            case 2:
                return Place(-right, -top, -left, -bottom)
            case 1:
                return Place(-top, left, -bottom, right)
        return Place(left, bottom, right, top)

    def _lines_of(self, match: re.Match[str], turn: int) -> Iterator[Line]:
        """Yield the lines of what PDFium takes for one: fields of a form are drawn anywhere."""
        start, text = match.start(), match.group()
        readable = NO_TEXT.sub(" ", OWN_BULLET.sub("•", text))
        words = list(WORD.finditer(readable))
        while words:
            has_mark = len(words) > 1 and MARK.fullmatch(words[0].group()) is not None
            size, font, bold, mono = self._font(start + words[has_mark].start())
            cells, count, box = self._cells(words, start, size, turn)
            last_size, last_font, last_bold, last_mono = self._font(
                start + words[count - 1].end() - 1
            )
            words = words[count:]
            yield Line(
                cells,
                box.bottom,
                box.top,
                size,
                font,
                bold=bold and last_bold,
                mono=mono and last_mono,
                uniform=(size, font) == (last_size, last_font),
                hyphen=not words and text[-1] in BROKEN_WORD,
            )

    def _cells(
        self, words: Sequence[re.Match[str]], start: int, size: float, turn: int
    ) -> tuple[list[Cell], int, Place]:
        """Return a line's cells, how many words are in it, and the box of its first character."""
        cells: list[Cell] = []
        text, begin, end = "", 0.0, 0.0
        first = before = self._place(start + words[0].start(), turn)
        count = 0
        for word in words:
            one = self._place(start + word.start(), turn)
            if count and (one.top < first.bottom or one.bottom > first.top > first.bottom):
                break
            count += 1
            last = start + word.end() - 1
            other = one if last == start + word.start() else self._place(last, turn)
            left, right = min(one.left, other.left), max(one.right, other.right)
            if text and (left - end > CELL_GAP * size or begin - right > CELL_GAP * size):
                cells.append(Cell(text, begin, end))
                text = ""
            if text:
                near = left - end < GLUED * size and one.is_unlike(before)
                is_index = INDEX.match(word.group()) or text[-1].isdigit()
                text += "" if near and is_index else " "
                begin, end = min(begin, left), max(end, right)
            else:
                begin, end = left, right
            text += self._spelled(word, start, one, other, turn)
            before = other
        cells.append(Cell(text, begin, end))
        return cells, count, first

    def _spelled(self, word: re.Match[str], start: int, one: Place, other: Place, turn: int) -> str:
        """Return a word; a power is set apart, so that it isn't read as a digit of its base."""
        text = word.group()
        if not (other.is_unlike(one) and other.bottom > one.bottom and POWER.fullmatch(text)):
            return _with_pairs(text)
        for i in range(1, len(text)):
            if self._place(start + word.start() + i, turn).is_unlike(one):
                return f"{text[:i]}^{text[i:]}"
        return text

    def _font(self, index: int) -> tuple[float, str, bool, bool]:
        """Return the size in points, the name and the style of a character's font."""
        pdfium = self.pdfium
        size = pdfium.FPDFText_GetFontSize(self.raw, index)
        if pdfium.FPDFText_GetMatrix(self.raw, index, self._matrix):
            size *= math.hypot(self._matrix.c, self._matrix.d)
        pdfium.FPDFText_GetFontInfo(self.raw, index, self._name, 96, self._flags)
        name = self._name.value.decode("latin-1")
        return round(size, 1) or 1.0, name, *_font_style(name, self._flags.value)
