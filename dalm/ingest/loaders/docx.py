"""Load Word files (docx): paragraphs, headings, tables, lists, equations and notes."""

from collections.abc import Sequence
from itertools import groupby

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_pieces import Paragraph, Piece, Table
from dalm.ingest.loaders.docx_reader import DocxReader
from dalm.ingest.loaders.docx_styles import Numbering, Styles
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.zipped_xml import ZippedXml, parse_xml

BODY = "word/document.xml"


def load_docx(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a Word file as it reads with all tracked changes accepted.

    A table is a row a line, list items begin with their number or `-`, a footnote follows the
    paragraph or table that names it, endnotes come last. Hidden text, tables of contents and the
    codes of fields are left out; charts, diagrams and embedded documents are reported as unread.

    Raises:
        UnreadableError: not a Word file, encrypted, broken, or too large once unpacked.
    """
    archive = ZippedXml(data, "a Word file", ".docx", options.max_bytes)
    body = archive.target("", "officeDocument", BODY)
    xml = archive.need(body)
    parts = {kind: part for kind, part in archive.targets(body).values() if part in archive.names}

    def related(kind: str) -> str:
        return parts.get(kind, f"word/{kind}.xml")

    styles = Styles(archive, related("styles"))
    numbering = Numbering(archive, related("numbering"))
    builder = DocumentBuilder()
    notes = DocxReader(styles, numbering, builder)
    archive.parse(related("footnotes"), notes.start, notes.end, notes.data)
    reader = DocxReader(styles, numbering, builder, notes.notes)
    reader.honours_fields = xml.count(b'fldCharType="begin"') == xml.count(b'fldCharType="end"')
    parse_xml(xml, reader.start, reader.end, reader.data, ".docx")
    ends = DocxReader(styles, numbering, builder)
    archive.parse(related("endnotes"), ends.start, ends.end, ends.data)
    loose = [*reader.notes.values(), *ends.notes.values()]  # named nowhere, or at the end
    _write([*reader.pieces, *(piece for note in loose for piece in note)], builder)
    return builder.document(archive.core_title(), source)


def _kind(piece: Piece) -> str:
    """Return what a piece is: consecutive items and lines of code belong together."""
    if isinstance(piece, Table):
        return "table"
    if piece.level:
        return "heading"
    return "code" if piece.style.is_code else "item" if piece.is_item else "paragraph"


def _write(pieces: Sequence[Piece], builder: DocumentBuilder) -> None:
    for kind, group in groupby(pieces, _kind):
        if kind == "paragraph":
            for piece in group:
                builder.paragraph(piece.text if isinstance(piece, Paragraph) else "")
            continue
        alike = list(group)
        paragraphs = [piece for piece in alike if isinstance(piece, Paragraph)]
        if kind == "item":
            builder.items([f"{'  ' * (each.list_level or 0)}{each.marked}" for each in paragraphs])
        elif kind == "code":
            builder.code("\n".join(each.text for each in paragraphs))
        for piece in alike:
            if isinstance(piece, Table):
                _write_table(piece, builder)
            elif kind == "heading":
                builder.heading(piece.marked, piece.level)


def _write_table(table: Table, builder: DocumentBuilder) -> None:
    if table.is_layout:
        for row in table.rows:
            for cell in row.cells:
                _write(cell.pieces, builder)
    else:
        builder.table(table.texts(), table.header_rows)
    _write(table.after, builder)


DOCX = Loader("docx", "docx", (".docx", ".docm", ".dotx", ".dotm"), load_docx)
