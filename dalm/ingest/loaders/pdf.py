"""Load PDF files with PDFium; needs the extra `pdf`."""

import re
from typing import Any

from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.io.text_lines import UnreadableError, too_large

# PDFium writes U+FFFE, or U+0002, for the hyphen of a word broken at a line's end.
LINE_END_HYPHEN = re.compile("[\ufffe\x02][ \t]*\r?\n?")
LINE_END = re.compile(r"[ \t]*\r?\n[ \t]*")
PARAGRAPH_END = re.compile(r"(?:[ \t]*\r?\n[ \t]*){2,}")


def load_pdf(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a PDF's text page by page; lines and hyphenated words are joined.

    Raises:
        UnreadableError: the file is broken, encrypted or has no text.
    """
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(
            f"could not be opened ({error}); save it again, unencrypted"
        ) from error
    try:
        texts = _page_texts(pdf, options.max_bytes)
        title = " ".join(pdf.get_metadata_value("Title").split())
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(f"a page could not be read ({error}); save it again") from error
    finally:
        pdf.close()
    if not any(text.strip() for text in texts):
        raise UnreadableError(
            "no text in it: scanned pages need optical character recognition (OCR) first"
        )
    starts, length = [], 0
    for text in texts:
        starts.append(length)
        length += len(text) + 1
    return Document("\n".join(texts), title, source, pages=tuple(starts))


def _page_texts(pdf: Any, max_bytes: int) -> list[str]:
    texts, length = [], 0
    for number in range(len(pdf)):
        page = pdf[number]
        text_page = page.get_textpage()
        texts.append(_join_lines(text_page.get_text_range()))
        text_page.close()
        page.close()
        length += len(texts[-1])
        if length > max_bytes:
            raise too_large(max_bytes, "its text")
    return texts


def _join_lines(text: str) -> str:
    joined = LINE_END_HYPHEN.sub("", text.replace("\0", ""))
    paragraphs = PARAGRAPH_END.split(joined)
    return "\n\n".join(LINE_END.sub(" ", paragraph).strip() for paragraph in paragraphs)


PDF = Loader("pdf", "PDF", (".pdf",), load_pdf, extra="pdf")
