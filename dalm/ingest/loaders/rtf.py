"""Load Rich Text (rtf): paragraphs, headings, tables and the marks of lists."""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_styles import BODY_LEVEL, HEADING_STYLE
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.symbol_fonts import FONTS, decode_symbols
from dalm.io.text_lines import UnreadableError

TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|[\r\n]+|([^\\{}\r\n]+)",
    re.DOTALL,
)
"""A word with its number, a byte, a sign, a brace, or text."""
SKIPPED = frozenset(
    "colortbl info pict object objdata themedata colorschememapping datastore listtable xmlnstbl "
    "listoverridetable rsidtbl generator header headerl headerr headerf footer footerl footerr "
    "footerf fldinst bkmkstart bkmkend annotation atnid atnauthor atndate atnref ftnsep ftnsepc "
    "aftnsep aftnsepc pgdsctbl revtbl filetbl latentstyles nonshppict shppict sp pnseclvl "
    "wgrffmtfilter mmathPr docvar shprslt userprops xmlopen tc xe pntxta pntxtb".split()
)
CHARACTERS = {
    "emdash": "—", "endash": "–", "bullet": "•", "lquote": "‘", "rquote": "’",
    "ldblquote": "“", "rdblquote": "”", "tab": "\t", "line": "\n", "emspace": " ", "softline": " ",
    "enspace": " ", "qmspace": " ",
}  # fmt: skip
SIGNS = {b"~": "\u00a0", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}"}
ESCAPED = (b"\\", b"{", b"}")
CHARSETS = {
    0: "cp1252", 128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5hkscs", 161: "cp1253",
    162: "cp1254", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250",
}  # fmt: skip
DEEPEST = 1000  # groups within one another


def load_rtf(data: bytes, source: str, _options: LoaderOptions) -> Document:
    """Load a Rich Text file as it reads with all tracked changes accepted.

    Headings are known by their outline level or style. Hidden text, heads and feet are left out;
    footnotes follow their paragraph.

    Raises:
        UnreadableError: no Rich Text, or groups nested too deep.
    """
    if not data.lstrip().startswith(b"{\\rtf"):
        raise UnreadableError("not Rich Text: it doesn't begin with {\\rtf; save it again as .rtf")
    reader = _Reader()
    reader.read(data)
    return reader.builder.document(" ".join(reader.title.split()), source)


@dataclass(slots=True)
class _State:
    """What a group inherits from the one around it."""

    place: str = "text"
    """Where text goes: `text`, `fonts`, `styles`, `title`, `note`, or `skip`."""
    hidden: bool = False
    deleted: bool = False
    raised: bool = False
    font: int = 0
    skip_after_unicode: int = 1


@dataclass(slots=True)
class _Paragraph:
    parts: list[str] = field(default_factory=list)
    level: int = 0
    style: int = -1
    in_table: bool = False
    mark: list[str] = field(default_factory=list)


class _Reader:
    """Read the words of Rich Text into paragraphs and rows."""

    def __init__(self) -> None:
        self.builder = DocumentBuilder()
        self.states = [_State()]
        self.codec = "cp1252"
        self.fonts: dict[int, list[str]] = {}  # name and codec of each font
        self.styles: dict[int, str] = {}
        self.style = -1
        self.title = ""
        self.paragraph = _Paragraph()
        self.cells: list[str] = []
        self.cell: list[str] = []
        self.rows: list[list[str]] = []
        self.items: list[str] = []
        self.notes: list[str] = []
        self.note: list[str] = []
        self.bytes = b""
        self.to_skip = 0
        self.high = 0
        self.starred = False

    def read(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            found = TOKEN.match(data, at)
            if found is None:  # a backslash at the end
                break
            at = found.end()
            word, number, byte, sign, brace, text = found.groups()
            if byte:
                self._byte(bytes([int(byte, 16)]))
                continue
            second = text[:1] if text else sign if sign in ESCAPED else b""
            if second and self._ends_in_half():
                self.bytes += second
                sign, text = None, text and text[1:]
            self._flush_bytes()
            if word:
                count = int(number) if number else None
                if word == b"bin" and count and count > 0:
                    at += count
                else:
                    self._word(word.decode(), count)
            elif brace:
                self._brace(brace)
            elif sign:
                self._sign(sign)
            elif text:
                skipped = text[self.to_skip :]
                self.to_skip = max(0, self.to_skip - len(text))
                self._add(self._decode(skipped))
        self._flush_bytes()
        self._end_paragraph()
        self._end_blocks()

    def _brace(self, brace: bytes) -> None:
        self.to_skip = 0
        if brace == b"{":
            if len(self.states) > DEEPEST:
                raise UnreadableError("its groups are nested too deep; save it in a simpler form")
            self.states.append(replace(self.states[-1]))
        elif len(self.states) > 1:
            was = self.states.pop()
            if was.place == "note" and self.states[-1].place != "note":
                self.notes.append("".join(self.note))
                self.note = []
        self.starred = False

    def _sign(self, sign: bytes) -> None:
        if sign == b"*":
            self.starred = True
        elif sign in b"\r\n":
            self._end_paragraph()
        else:
            self._add(SIGNS.get(sign, ""))

    def _byte(self, byte: bytes) -> None:
        if self.to_skip:
            self.to_skip -= 1
        else:
            self.bytes += byte

    def _ends_in_half(self) -> bool:
        """Tell whether the second byte of a character is missing, which can be a plain letter."""
        if not self.bytes:
            return False
        codec = self.fonts.get(self.states[-1].font, ["", ""])[1] or self.codec
        decoder = codecs.getincrementaldecoder(codec)("replace")
        decoder.decode(self.bytes)
        return bool(decoder.getstate()[0])

    def _flush_bytes(self) -> None:
        if self.bytes:
            data, self.bytes = self.bytes, b""
            self._add(self._decode(data))

    def _decode(self, data: bytes) -> str:
        name, codec = self.fonts.get(self.states[-1].font, ["", ""])
        if name.lower() in FONTS:
            return decode_symbols(data.decode("latin-1"), name)
        return data.decode(codec or self.codec, "replace")

    def _add(self, text: str) -> None:
        state = self.states[-1]
        if not text or state.hidden or state.deleted:
            return
        match state.place:
            case "text":
                parts = self.paragraph.parts
                raised = state.raised and text.strip().isdecimal() and parts
                if raised and parts[-1][-1:].isdigit():
                    text = f"^{text}"  # 10^6, not 106
                parts.append(text)
            case "mark":
                self.paragraph.mark.append(text)
            case "note":
                self.note.append(text)
            case "title":
                self.title += text
            case "fonts":
                self.fonts.setdefault(state.font, ["", ""])[0] += text.rstrip(";")
            case "styles":
                self.styles[self.style] = self.styles.get(self.style, "") + text.rstrip(";")

    def _word(self, word: str, count: int | None) -> None:
        state = self.states[-1]
        starred, self.starred = self.starred, False
        if word in CHARACTERS:
            self._add(CHARACTERS[word])
        elif word == "u" and count is not None:
            self._unicode(count % 0x10000)
        elif handler := WORDS.get(word):
            handler(self, state, count)
        elif word in SKIPPED or (starred and word not in KNOWN_STARRED):
            if word == "object" and state.place == "text":
                self.builder.lose("embedded object", "save it as a document or table of its own")
            state.place = "skip"

    def _unicode(self, code: int) -> None:
        self.to_skip = self.states[-1].skip_after_unicode
        if 0xD800 <= code < 0xDC00:
            self.high = code
        elif 0xDC00 <= code < 0xE000:
            if self.high:
                self._add(chr(0x10000 + ((self.high - 0xD800) << 10) + code - 0xDC00))
            self.high = 0
        else:
            name = self.fonts.get(self.states[-1].font, [""])[0]
            self._add(decode_symbols(chr(code), name))

    def _end_paragraph(self) -> None:
        if self.states[-1].place == "note":
            self.note.append("\n")
            return
        paragraph = self.paragraph
        text = "".join(paragraph.parts).strip()
        mark = "".join(paragraph.mark).replace("•", "-").replace("·", "-").strip()
        self.paragraph = _Paragraph(
            level=paragraph.level, style=paragraph.style, in_table=paragraph.in_table
        )
        if paragraph.in_table:
            self.cell.append(f"{mark} {text}".strip())
            return
        self._end_table()
        if mark and text:
            self.items.append(f"{mark} {' '.join(text.split())}")
        elif text:
            self._end_items()
            style = HEADING_STYLE.fullmatch(self.styles.get(paragraph.style, "").strip())
            if level := paragraph.level or (int(style.group(1)) if style else 0):
                self.builder.heading(text, level)
            else:
                self.builder.paragraph(text.replace("\t", " "))
        self._end_notes()

    def _end_notes(self) -> None:
        if self.notes:
            self._end_items()
            for note in self.notes:
                self.builder.paragraph(note)
            self.notes = []

    def _end_cell(self) -> None:
        self.paragraph.in_table = True
        self._end_paragraph()
        self.cells.append(" ".join(filter(None, self.cell)))
        self.cell = []

    def _end_row(self, *, nested: bool = False) -> None:
        self.paragraph.in_table = nested
        if self.cells:
            self._end_items()
            self.rows.append(self.cells)
        self.cells = []

    def _end_items(self) -> None:
        if self.items:
            self.builder.items(self.items)
        self.items = []

    def _end_table(self) -> None:
        if self.rows:
            rows, self.rows = self.rows, []
            self.builder.table(rows)

    def _end_blocks(self) -> None:
        for text in filter(None, (*self.cells, *self.cell)):  # of a row that never ended
            self.builder.paragraph(text)
        self._end_table()
        self._end_items()
        self._end_notes()

    # Words

    def _set_place(self, place: str) -> None:
        if self.states[-1].place in ("text", "mark"):
            self.states[-1].place = place

    def _reset_paragraph(self) -> None:
        self.paragraph.level, self.paragraph.style, self.paragraph.in_table = 0, -1, False

    def _set_outline(self, level: int) -> None:
        self.paragraph.level = level + 1 if 0 <= level < BODY_LEVEL else 0

    def _set_style(self, state: _State, style: int) -> None:
        if state.place == "styles":
            self.style = style
        else:
            self.paragraph.style = style

    def _set_codepage(self, page: int) -> None:
        self.codec = _known(f"cp{page}") or ("utf-8" if page == 65001 else self.codec)

    def _set_charset(self, state: _State, charset: int) -> None:
        if state.place == "fonts":
            codec = CHARSETS.get(charset, "")
            self.fonts.setdefault(state.font, ["", ""])[1] = codec if charset else ""


def _known(codec: str) -> str:
    try:
        return codecs.lookup(codec).name
    except LookupError:
        return ""


Handler = Callable[[_Reader, _State, int | None], None]


def _switch(name: str) -> Handler:
    """Return what turns a property on, or off with 0."""
    return lambda _, state, count: setattr(state, name, count != 0)


WORDS: dict[str, Handler] = {
    "par": lambda reader, *_: reader._end_paragraph(),
    "sect": lambda reader, *_: reader._end_paragraph(),
    "column": lambda reader, *_: reader._end_paragraph(),
    "page": lambda reader, *_: reader._end_paragraph(),
    "pard": lambda reader, *_: reader._reset_paragraph(),
    "intbl": lambda reader, *_: setattr(reader.paragraph, "in_table", True),
    "cell": lambda reader, *_: reader._end_cell(),
    "nestcell": lambda reader, *_: reader._end_cell(),
    "row": lambda reader, *_: reader._end_row(),
    "nestrow": lambda reader, *_: reader._end_row(nested=True),
    "trowd": lambda reader, *_: setattr(reader.paragraph, "in_table", True),
    "outlinelevel": lambda reader, _, count: reader._set_outline(count or 0),
    "s": lambda reader, state, count: reader._set_style(state, count or 0),
    "v": _switch("hidden"),
    "deleted": _switch("deleted"),
    "super": _switch("raised"),
    "nosupersub": lambda _, state, __: setattr(state, "raised", False),
    "plain": lambda _, state, __: setattr(state, "hidden", False),
    "f": lambda _, state, count: setattr(state, "font", count or 0),
    "uc": lambda _, state, count: setattr(state, "skip_after_unicode", count or 0),
    "ansicpg": lambda reader, _, count: reader._set_codepage(count or 1252),
    "mac": lambda reader, *_: setattr(reader, "codec", "mac_roman"),
    "pc": lambda reader, *_: setattr(reader, "codec", "cp437"),
    "fcharset": lambda reader, state, count: reader._set_charset(state, count or 0),
    "fonttbl": lambda reader, *_: reader._set_place("fonts"),
    "stylesheet": lambda reader, *_: reader._set_place("styles"),
    "listtext": lambda reader, *_: reader._set_place("mark"),
    "pntext": lambda reader, *_: reader._set_place("mark"),
    "footnote": lambda reader, *_: reader._set_place("note"),
    "info": lambda reader, *_: reader._set_place("info"),
    "title": lambda _, state, __: (
        setattr(state, "place", "title") if state.place == "info" else None
    ),
}
KNOWN_STARRED = frozenset(("footnote", "shptxt", "shpinst"))

RTF = Loader("rtf", "rtf", (".rtf",), load_rtf)
