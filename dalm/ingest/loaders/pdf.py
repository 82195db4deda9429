"""Load PDF files with PDFium; needs the extra `pdf`."""

import re
from collections.abc import Sequence
from dataclasses import replace

from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.pdf_contents import find_contents
from dalm.ingest.loaders.pdf_coverage import Page, unread_reasons
from dalm.ingest.loaders.pdf_headings import Entry, body_size, mark_headings
from dalm.ingest.loaders.pdf_lines import Line
from dalm.ingest.loaders.pdf_pages import read_outline, read_pages, unread_besides
from dalm.ingest.loaders.pdf_paragraphs import paragraphs_of
from dalm.ingest.loaders.pdf_running_heads import find_running_heads
from dalm.ingest.loaders.pdf_text import TextWriter, join_paragraphs
from dalm.ingest.loaders.pdf_words import Hyphens
from dalm.io.text_lines import UnreadableError

NO_TITLE = re.compile(
    r"untitled.*|\(anonymous\)|microsoft (?:word|powerpoint|excel) - .*|"
    r".*\.(?:docx?|pptx?|xlsx?|tex|dvi|indd|pdf|odt|rtf|qxd|fm|ps)|"
    r"(?:document|slide|sheet|page)\s*\d*|\W*",
    re.IGNORECASE,
)
"""What programs write for a title when nobody gave one."""
TITLE_SIZE = 1.3  # times the body's size
TITLE_LENGTH = 200


def load_pdf(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a PDF's text in reading order, without running heads and tables of contents.

    Headings are those of the outline, or else lines that are larger or bolder than the text.
    Pages that can't be read are named in the document's `unread`.

    Raises:
        UnreadableError: the file is broken, encrypted or has no text.
    """
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error)
        remedy = "it needs a password; save it without" if locked else f"{error}; save it again"
        raise UnreadableError(f"could not be opened: {remedy}") from error
    try:
        pages = read_pages(pdf, options.max_bytes)
        outline = list(read_outline(pdf))
        title = " ".join(pdf.get_metadata_value("Title").split())
        besides = list(unread_besides(pdf))
    finally:
        pdf.close()
    document = make_document(pages, outline, title, source)
    return replace(document, unread=(*document.unread, *besides))


def make_document(
    pages: Sequence[Page], outline: Sequence[Entry], title: str, source: str
) -> Document:
    """Put a document together from its pages.

    Raises:
        UnreadableError: none of the pages has text that can be read.
    """
    lines: list[list[Line]] = [page.lines for page in pages]
    body = body_size(lines)
    lines = _without(lines, find_running_heads(lines, body))
    unread = unread_reasons(pages, lines)
    lines = _without(lines, find_contents(lines))
    if not any(lines):
        raise UnreadableError(
            f"no text in it: {'; '.join(unread)}"
            if unread
            else "no text in it: its pages are empty"
        )
    mark_headings(lines, outline)
    every = [line for page in lines for line in page]
    mono = sum(len(line.text) for line in every if line.mono)
    mono_body = 2 * mono > sum(len(line.text) for line in every)
    found = (each for page in lines for each in paragraphs_of(page, mono_body=mono_body))
    writer = TextWriter(Hyphens(every))
    writer.write(join_paragraphs(found, body))
    return Document(
        "".join(writer.parts),
        _title(lines[0], body) if NO_TITLE.fullmatch(title) else title,
        source,
        tuple(writer.headings),
        pages=writer.pages(len(pages)),
        blocks=tuple(writer.blocks),
        unread=unread,
    )


def _without(pages: Sequence[Sequence[Line]], left_out: set[Line]) -> list[list[Line]]:
    return [[line for line in page if line not in left_out] for page in pages]


def _title(lines: Sequence[Line], body: float) -> str:
    """Return the largest lines of the first page; none if they are hardly larger than the text."""
    size = max((line.size for line in lines), default=0.0)
    title = " ".join(line.text for line in lines if line.size == size)
    return title if size >= TITLE_SIZE * body and len(title) <= TITLE_LENGTH else ""


PDF = Loader("pdf", "PDF", (".pdf",), load_pdf, extra="pdf")
