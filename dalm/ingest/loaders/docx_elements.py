"""Say what the elements of a Word file's paragraphs do to its reader."""

from typing import TYPE_CHECKING

from dalm.ingest.loaders.docx_handlers import end, start
from dalm.ingest.loaders.docx_pieces import Paragraph
from dalm.ingest.loaders.docx_styles import HIGHEST_LEVEL, is_on, number
from dalm.ingest.loaders.linear_math import LinearMath
from dalm.ingest.loaders.symbol_fonts import FONTS, UNKNOWN, decode_symbols
from dalm.ingest.loaders.zipped_xml import Attributes, attribute

if TYPE_CHECKING:
    from dalm.ingest.loaders.docx_reader import DocxReader

SKIPPED = frozenset(
    "w:rt w:delText w:delInstrText w:pPrChange w:rPrChange w:tblPrChange w:trPrChange "
    "w:tcPrChange w:sectPrChange w:numberingChange w:tblPrExChange w:sdtEndPr".split()
)
"""Elements without text of the document as it is now."""


@start(*SKIPPED)
def _skip(reader: "DocxReader", _: Attributes) -> None:
    reader.skipped = 1


# Paragraphs


@start("w:p")
def _begin_paragraph(reader: "DocxReader", _: Attributes) -> None:
    reader.paragraphs.append(Paragraph(parts=reader.carried))
    reader.carried = []


@end("w:p")
def _end_paragraph(reader: "DocxReader") -> None:
    paragraph = reader.paragraphs.pop()
    if paragraph.goes_on:
        reader.carried = paragraph.parts
    elif not paragraph.style.is_contents:
        reader.finish(paragraph)
    if paragraph.after:
        reader.containers[-1] += paragraph.after


@start("w:pPr")
def _begin_paragraph_properties(reader: "DocxReader", _: Attributes) -> None:
    reader.in_paragraph_properties = True


@end("w:pPr")
def _end_paragraph_properties(reader: "DocxReader") -> None:
    reader.in_paragraph_properties = False


@start("w:pStyle")
def _style_paragraph(reader: "DocxReader", attributes: Attributes) -> None:
    paragraph = reader.paragraphs[-1]
    paragraph.style_id = attribute(attributes, "val")
    paragraph.style = reader.styles.get(paragraph.style_id)


@start("w:outlineLvl")
def _outline(reader: "DocxReader", attributes: Attributes) -> None:
    reader.paragraphs[-1].outline = number(attribute(attributes, "val"), HIGHEST_LEVEL)


@start("w:numId")
def _list(reader: "DocxReader", attributes: Attributes) -> None:
    reader.paragraphs[-1].list_id = attribute(attributes, "val")


@start("w:ilvl")
def _list_level(reader: "DocxReader", attributes: Attributes) -> None:
    level = number(attribute(attributes, "val"))
    reader.paragraphs[-1].list_level = min(level, HIGHEST_LEVEL - 1)


# Runs


@start("w:r")
def _begin_run(reader: "DocxReader", _: Attributes) -> None:
    paragraph = reader.paragraphs[-1]
    paragraph.hidden = bool(paragraph.style.hidden)
    paragraph.raised = False
    _set_font(paragraph, paragraph.style.font)


def _set_font(paragraph: Paragraph, font: str) -> None:
    paragraph.font = font if font.lower() in FONTS else ""


@start("w:rStyle")
def _style_run(reader: "DocxReader", attributes: Attributes) -> None:
    paragraph, style = reader.paragraphs[-1], reader.styles.get(attribute(attributes, "val"))
    if not reader.in_paragraph_properties:
        paragraph.hidden = paragraph.hidden if style.hidden is None else style.hidden
        _set_font(paragraph, style.font or paragraph.font)


@start("w:vanish")
def _hide(reader: "DocxReader", attributes: Attributes) -> None:
    if not reader.in_paragraph_properties:  # there it hides the paragraph's mark alone
        reader.paragraphs[-1].hidden = is_on(attributes)


@start("w:rFonts")
def _font(reader: "DocxReader", attributes: Attributes) -> None:
    font = attribute(attributes, "ascii") or attribute(attributes, "hAnsi")
    if font and not reader.in_paragraph_properties:
        _set_font(reader.paragraphs[-1], font)


@start("w:vertAlign")
def _align(reader: "DocxReader", attributes: Attributes) -> None:
    if not reader.in_paragraph_properties:
        reader.paragraphs[-1].raised = attribute(attributes, "val") == "superscript"


@start("w:t")
def _begin_text(reader: "DocxReader", _: Attributes) -> None:
    reader.text_open = True


@end("w:t")
def _end_text(reader: "DocxReader") -> None:
    reader.text_open = False


@start("w:tab", "w:ptab")
def _tab(reader: "DocxReader", _: Attributes) -> None:
    if not reader.in_paragraph_properties:  # there it is a tab stop
        reader.add(" ")


@start("w:br", "w:cr")
def _line_end(reader: "DocxReader", _: Attributes) -> None:
    reader.add("\n")


@start("w:noBreakHyphen")
def _hyphen(reader: "DocxReader", _: Attributes) -> None:
    reader.add("-")


@start("w:sym")
def _symbol(reader: "DocxReader", attributes: Attributes) -> None:
    font, code = attribute(attributes, "font"), attribute(attributes, "char")
    try:
        char = chr(int(code, 16))
    except (ValueError, OverflowError):
        char = UNKNOWN
    text = decode_symbols(char, font)
    if text == UNKNOWN:
        reader.lose_symbol(font, code)
    reader.add(text)


@start("m:oMath", "m:oMathPara")
def _begin_equation(reader: "DocxReader", attributes: Attributes) -> None:
    reader.math = LinearMath()
    reader.math.start("oMath", attributes)


# Tracked changes, fields, alternatives and content controls


@start("w:fldChar")
def _field_mark(reader: "DocxReader", attributes: Attributes) -> None:
    match attribute(attributes, "fldCharType"):
        case "begin":
            reader.fields.append(["", "code"])
        case "separate" if reader.fields:
            reader.fields[-1][1] = "result"
        case "end":
            reader.end_field()


@start("w:instrText")
def _begin_code(reader: "DocxReader", _: Attributes) -> None:
    reader.code_open = True


@end("w:instrText")
def _end_code(reader: "DocxReader") -> None:
    reader.code_open = False


@start("w:fldSimple")
def _begin_simple_field(reader: "DocxReader", attributes: Attributes) -> None:
    reader.fields.append([attribute(attributes, "instr"), "result"])


@end("w:fldSimple")
def _end_simple_field(reader: "DocxReader") -> None:
    reader.end_field()


@start("mc:AlternateContent")
def _begin_alternatives(reader: "DocxReader", _: Attributes) -> None:
    reader.choices.append(False)


@end("mc:AlternateContent")
def _end_alternatives(reader: "DocxReader") -> None:
    reader.choices.pop()


@start("mc:Choice", "mc:Fallback")
def _alternative(reader: "DocxReader", _: Attributes) -> None:
    if reader.choices and reader.choices[-1]:  # it repeats the first one for another program
        reader.skipped = 1
    elif reader.choices:
        reader.choices[-1] = True


@start("w:sdt")
def _begin_control(reader: "DocxReader", _: Attributes) -> None:
    reader.controls.append(False)


@end("w:sdt")
def _end_control(reader: "DocxReader") -> None:
    reader.controls.pop()


@start("w:showingPlcHdr", "w:docPartGallery")
def _control_property(reader: "DocxReader", attributes: Attributes) -> None:
    if reader.controls and attribute(attributes, "val", "1") in ("Table of Contents", "1", "true"):
        reader.controls[-1] = True


@start("w:sdtContent")
def _control_content(reader: "DocxReader", _: Attributes) -> None:
    if reader.controls and reader.controls[-1]:
        reader.skipped = 1
