"""Read the paragraphs and tables of a Word file's XML as a parser finds them."""

import re

from dalm.ingest.loaders import docx_containers, docx_elements  # noqa: F401 - they register handlers
from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_elements import SKIPPED
from dalm.ingest.loaders.docx_handlers import ENDS, STARTS, End, Start
from dalm.ingest.loaders.docx_pieces import Paragraph, Piece, Table
from dalm.ingest.loaders.docx_styles import Numbering, Styles
from dalm.ingest.loaders.linear_math import LinearMath
from dalm.ingest.loaders.symbol_fonts import PRIVATE, UNKNOWN, decode_symbols
from dalm.ingest.loaders.zipped_xml import Attributes

PREFIXES = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": "w",
    "http://purl.oclc.org/ooxml/wordprocessingml/main": "w",
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m",
    "http://purl.oclc.org/ooxml/officeDocument/math": "m",
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc",
    "http://schemas.openxmlformats.org/drawingml/2006/chart": "c",
    "http://purl.oclc.org/ooxml/drawingml/chart": "c",
    "http://schemas.microsoft.com/office/drawing/2014/chartex": "c",
    "http://schemas.openxmlformats.org/drawingml/2006/diagram": "dgm",
    "http://purl.oclc.org/ooxml/drawingml/diagram": "dgm",
    "urn:schemas-microsoft-com:office:office": "o",
}
CONTENTS_FIELD = re.compile(r"\s*(?:TOC|TOA|INDEX)\b")
EQUATION_FIELD = re.compile(r"\s*EQ\b")
EXPONENT = re.compile(r"[-+\N{MINUS SIGN}]?\d")


def _prefixed(tag: str) -> str:
    """Return a tag as it is usually written: `w:p`."""
    namespace, _, name = tag.rpartition(" ")
    return f"{PREFIXES.get(namespace, '')}:{name}"


class DocxReader:
    """Collect the paragraphs and tables of a part (`pieces`), and its notes by id (`notes`).

    What happens at an element is in `docx_elements` and `docx_containers`.
    """

    def __init__(
        self,
        styles: Styles,
        numbering: Numbering,
        builder: DocumentBuilder,
        notes: dict[str, list[Piece]] | None = None,
    ) -> None:
        self.styles, self.numbering, self.builder = styles, numbering, builder
        self.notes = {} if notes is None else notes
        self.pieces: list[Piece] = []
        self.containers = [self.pieces]  # the part, and what is open in it: cells, text boxes
        self.paragraphs = [Paragraph()]  # those that are open; the first takes what is astray
        self.carried: list[str] = []  # the text of a paragraph whose end was deleted
        self.tables: list[Table] = []
        self.skipped = 0  # open elements whose content is left out
        self.text_open = self.code_open = False
        self.in_paragraph_properties = self.in_row_properties = False
        self.math: LinearMath | None = None
        self.honours_fields = True
        self.fields: list[list[str]] = []  # of each open field its code, and "code" or "result"
        self.choices: list[bool] = []  # whether one of the open alternatives was read
        self.controls: list[bool] = []  # whether the open content controls have no text of theirs
        self.starts: dict[str, Start | None] = {}  # by the tags that were met
        self.ends: dict[str, End | None] = {}

    def start(self, tag: str, attributes: Attributes) -> None:
        """Read the start of an element."""
        if self.skipped:
            self.skipped += 1
            return
        if self.math is not None:
            name = _prefixed(tag)
            if name in SKIPPED or name in ("w:del", "w:moveFrom"):
                self.skipped = 1
                return
            local = {n.rpartition(" ")[2]: value for n, value in attributes.items()}
            self.math.start(name.rpartition(":")[2], local)
            return
        if tag not in self.starts:
            name = _prefixed(tag)
            self.starts[tag], self.ends[tag] = STARTS.get(name), ENDS.get(name)
        if handler := self.starts[tag]:
            handler(self, attributes)

    def end(self, tag: str) -> None:
        """Read the end of an element."""
        if self.skipped:
            self.skipped -= 1
        elif self.math is not None:
            text = self.math.end()
            if not self.math.depth:
                self.math = None
                self.add(text)
        elif handler := self.ends[tag]:
            handler(self)

    def data(self, text: str) -> None:
        """Read text."""
        if self.skipped:
            return
        if self.text_open:
            self.add(text, self.paragraphs[-1].font)
        elif self.math is not None:
            self.math.data(text)
        elif self.code_open and self.fields:
            self.fields[-1][0] += text

    def add(self, text: str, font: str = "") -> None:
        """Add text of a symbol font, or of any other, to the open paragraph.

        Hidden text and what a field doesn't show are left out.
        """
        paragraph = self.paragraphs[-1]
        if paragraph.hidden or (self.fields and not self._is_shown()):
            return
        if font or not text.isascii():
            text = self._decode(text, font)
        if (
            paragraph.raised
            and EXPONENT.match(text)
            and "".join(paragraph.parts[-1:])[-1:].isdigit()
        ):
            text = f"^{text}"  # 10^6, not 106
        paragraph.parts.append(text)

    def _decode(self, text: str, font: str) -> str:
        text = decode_symbols(text, font)
        for char in PRIVATE.findall(text):
            self.lose_symbol(font, f"{ord(char):04X}")
        return PRIVATE.sub(UNKNOWN, text)

    def lose_symbol(self, font: str, code: str) -> None:
        """Report a symbol that is not in the text."""
        what = f"symbol {code} of {font or 'a font without a name'}"
        self.builder.lose(what, "no Unicode character is known for it")

    def _is_shown(self) -> bool:
        """Tell whether text here is a field's result, and not a table of contents."""
        return not self.honours_fields or all(
            place == "result" and not CONTENTS_FIELD.match(code) for code, place in self.fields
        )

    def end_field(self) -> None:
        """End the open field; the equations of `EQ` are in its code alone."""
        if self.fields and EQUATION_FIELD.match(self.fields.pop()[0]):
            self.builder.lose("equation in an EQ field", "type it as one of Word's own")

    def finish(self, paragraph: Paragraph) -> None:
        """Add an ended paragraph with its number or bullet, if it has text."""
        style = paragraph.style
        list_id = paragraph.list_id or style.list_id
        if list_id and list_id != "0":
            place = paragraph.list_level
            if place is None and not paragraph.list_id:
                place = style.list_level
            if place is None:
                place = self.numbering.level_of_style(list_id, paragraph.style_id)
            paragraph.is_item, paragraph.list_level = True, place
            paragraph.mark = self.numbering.mark(list_id, place)
        text = "".join(paragraph.parts)
        paragraph.text = text.rstrip() if style.is_code else text.strip()
        if paragraph.text:
            self.containers[-1].append(paragraph)
