"""Read the pages and the outline of a PDF with PDFium."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from dalm.errors import reason_of
from dalm.ingest.loaders.pdf_columns import reading_order
from dalm.ingest.loaders.pdf_coverage import Page, count_unmapped, is_garbled
from dalm.ingest.loaders.pdf_headings import Entry
from dalm.ingest.loaders.pdf_lines import LineReader
from dalm.io.text_lines import too_large

FEW_CHARACTERS = 200  # of a page whose pictures are looked at
OBJECTS = 2_000  # that are looked at
DEPTH = 4  # of forms in forms
AT_POINT = 1  # PDFDEST_VIEW_XYZ: left, top, zoom
ENTRIES = 20_000  # of an outline


def read_pages(pdf: Any, max_bytes: int) -> list[Page]:
    """Return all pages; one that PDFium can't read says why.

    Raises:
        UnreadableError: there is more text than `max_bytes`.
    """
    pages, length = [], 0
    has_forms = pdf.get_formtype() != 0
    if has_forms:
        pdf.init_forms()
    for number in range(len(pdf)):
        page = Page(number)
        try:
            length += _read(pdf, page, has_forms=has_forms)
        except Exception as error:  # whatever PDFium and its wrapper find in a broken page
            page = Page(number, broken=reason_of(error))
        if length > max_bytes:
            raise too_large(max_bytes, "its text")
        pages.append(page)
    return pages


def _read(pdf: Any, page: Page, *, has_forms: bool) -> int:
    """Read a page, and return the length of its text."""
    import pypdfium2.raw as pdfium

    opened = pdf[page.number]
    is_form = _has_typed_text(opened, has_forms=has_forms)
    if is_form:
        # What was filled in becomes text of the page.
        pdfium.FPDFPage_Flatten(opened, pdfium.FLAT_NORMALDISPLAY)
        opened.close()
        opened = pdf[page.number]
    text_page = opened.get_textpage()
    try:
        reader = LineReader(text_page)
        page.unmapped = count_unmapped(reader.text)
        page.garbled = is_garbled(reader.text, text_page)
        if not page.garbled:
            lines = reader.lines(page.number)
            page.lines = reading_order(lines, drawn_in_order=not is_form)
        if len(reader.text) < FEW_CHARACTERS:
            _look_at_pictures(opened, page)
        return len(reader.text)
    finally:
        text_page.close()
        opened.close()


def _look_at_pictures(opened: Any, page: Page) -> None:
    import pypdfium2.raw as pdfium

    width, height = opened.get_size()
    for each in islice(opened.get_objects(max_depth=DEPTH), OBJECTS):
        if each.type in (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_SHADING):
            page.drawn += 1
        elif each.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            left, bottom, right, top = each.get_bounds()
            share = (right - left) * (top - bottom) / max(1.0, width * height)
            page.picture = max(page.picture, share, 1e-6)


def _has_typed_text(page: Any, *, has_forms: bool) -> bool:
    """Tell whether fields are on a page, or text that was typed on it in a viewer."""
    import pypdfium2.raw as pdfium

    count = pdfium.FPDFPage_GetAnnotCount(page)
    if has_forms or not count:
        return has_forms and count > 0
    for number in range(min(count, OBJECTS)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        pdfium.FPDFPage_CloseAnnot(annotation)
        if kind in (pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP):
            return True
    return False


def read_outline(pdf: Any) -> Iterator[Entry]:
    """Yield the entries of the outline that lead to a page."""
    for bookmark in islice(pdf.get_toc(), ENTRIES):
        destination = bookmark.get_dest()
        page = destination.get_index() if destination else None
        if page is None:
            continue
        mode, view = destination.get_view()
        height = view[1] if mode == AT_POINT and len(view) > 1 else None
        yield Entry(bookmark.get_title(), bookmark.level + 1, page, height)


def unread_besides(pdf: Any) -> Iterator[str]:
    """Yield what of a PDF is on none of its pages: attached files, forms that a viewer makes."""
    import pypdfium2.raw as pdfium

    attached = pdf.count_attachments()
    if attached:
        yield f"{attached} attached file{'s' if attached > 1 else ''}: save them beside it"
    if pdf.get_formtype() == pdfium.FORMTYPE_XFA_FULL:
        yield "an XFA form, whose pages are made by Adobe Reader; print it to a new PDF"
