"""Say what tables, notes, text boxes and embedded objects of a Word file do to its reader."""

from typing import TYPE_CHECKING

from dalm.ingest.loaders.docx_handlers import ENDS, end, start
from dalm.ingest.loaders.docx_pieces import Cell, Row, Table
from dalm.ingest.loaders.docx_styles import is_on, number
from dalm.ingest.loaders.zipped_xml import Attributes, attribute

if TYPE_CHECKING:
    from dalm.ingest.loaders.docx_reader import DocxReader

MOST_COLUMNS = 1000
ELSEWHERE = "save it as a document or table of its own"


# Text boxes and notes


@start("w:txbxContent")
def _begin_text_box(reader: "DocxReader", _: Attributes) -> None:
    reader.containers.append([])


@end("w:txbxContent")
def _end_text_box(reader: "DocxReader") -> None:
    reader.paragraphs[-1].after += reader.containers.pop()


@start("w:footnote", "w:endnote")
def _begin_note(reader: "DocxReader", attributes: Attributes) -> None:
    reader.fields.clear()
    reader.containers.append(reader.notes.setdefault(attribute(attributes, "id"), []))


@end("w:footnote")
def _end_note(reader: "DocxReader") -> None:
    reader.containers.pop()


ENDS["w:endnote"] = _end_note


@start("w:footnoteReference")
def _footnote(reader: "DocxReader", attributes: Attributes) -> None:
    note = reader.notes.pop(attribute(attributes, "id"), [])
    (reader.tables[0] if reader.tables else reader.paragraphs[-1]).after.extend(note)


# Tables


@start("w:tbl")
def _begin_table(reader: "DocxReader", _: Attributes) -> None:
    reader.tables.append(Table())


@end("w:tbl")
def _end_table(reader: "DocxReader") -> None:
    table = reader.tables.pop()
    table.rows = [row for row in table.rows if not row.is_deleted]
    reader.containers[-1].append(table)


@start("w:tr")
def _begin_row(reader: "DocxReader", _: Attributes) -> None:
    if reader.tables:
        reader.tables[-1].rows.append(Row())


@start("w:trPr")
def _begin_row_properties(reader: "DocxReader", _: Attributes) -> None:
    reader.in_row_properties = True


@end("w:trPr")
def _end_row_properties(reader: "DocxReader") -> None:
    reader.in_row_properties = False


def _row(reader: "DocxReader") -> Row:
    """Return the open row; one that is in no table if there is none."""
    return reader.tables[-1].rows[-1] if reader.tables and reader.tables[-1].rows else Row()


def _cell(reader: "DocxReader") -> Cell:
    cells = _row(reader).cells
    return cells[-1] if cells else Cell()


@start("w:tblHeader")
def _header(reader: "DocxReader", attributes: Attributes) -> None:
    _row(reader).is_header = is_on(attributes)


@start("w:hidden")
def _hidden_row(reader: "DocxReader", attributes: Attributes) -> None:
    if reader.in_row_properties and is_on(attributes):
        _row(reader).is_deleted = True


@start("w:gridBefore")
def _cells_before(reader: "DocxReader", attributes: Attributes) -> None:
    count = min(number(attribute(attributes, "val")), MOST_COLUMNS)
    _row(reader).cells += [Cell() for _ in range(count)]


@start("w:tc")
def _begin_cell(reader: "DocxReader", _: Attributes) -> None:
    cell = Cell()
    _row(reader).cells.append(cell)
    reader.containers.append(cell.pieces)


@end("w:tc")
def _end_cell(reader: "DocxReader") -> None:
    reader.containers.pop()


@start("w:gridSpan")
def _span(reader: "DocxReader", attributes: Attributes) -> None:
    _cell(reader).span = min(max(number(attribute(attributes, "val"), 1), 1), MOST_COLUMNS)


@start("w:vMerge")
def _merge(reader: "DocxReader", attributes: Attributes) -> None:
    _cell(reader).goes_on = attribute(attributes, "val", "continue") == "continue"


@start("w:del", "w:moveFrom")
def _deleted(reader: "DocxReader", _: Attributes) -> None:
    if reader.in_paragraph_properties:
        reader.paragraphs[-1].goes_on = True
    elif reader.in_row_properties:
        _row(reader).is_deleted = True
    else:
        reader.skipped = 1


# What is not read


@start("w:altChunk")
def _imported_file(reader: "DocxReader", _: Attributes) -> None:
    reader.builder.lose("inserted file", ELSEWHERE)


@start("c:chart")
def _chart(reader: "DocxReader", _: Attributes) -> None:
    reader.builder.lose("chart", "its labels and figures are not read")


@start("dgm:relIds")
def _diagram(reader: "DocxReader", _: Attributes) -> None:
    reader.builder.lose("SmartArt diagram", "its text is not read")


@start("o:OLEObject")
def _embedded_object(reader: "DocxReader", attributes: Attributes) -> None:
    program = attribute(attributes, "ProgID", "a program without a name")
    if program.lower().startswith("equation"):
        reader.builder.lose(f"equation of an older editor ({program})", "type it as one of Word's")
    else:
        reader.builder.lose(f"embedded object of {program}", ELSEWHERE)
