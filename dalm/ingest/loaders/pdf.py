"""PDF: a file's bytes in, a document with its pages out; needs the extra `pdf`."""

import re
from pathlib import PurePath
from typing import Any

from dalm.ingest.document import Document, UnreadableError, too_large

# PDFium writes U+FFFE, or U+0002, for the hyphen at a line's end that parts a word.
PARTED = re.compile("[\ufffe\x02][ \t]*\r?\n?")
LINE_END = re.compile(r"[ \t]*\r?\n[ \t]*")
PARAGRAPH_END = re.compile(r"(?:[ \t]*\r?\n[ \t]*){2,}")
MISSING = 'reading PDF needs pypdfium2: pip install "indomain[pdf]"'


def read_pdf(data: bytes, source: str, max_bytes: int) -> Document:
    """Read a PDF's text page by page: lines joined, words parted at a line's end put together.

    Raises:
        UnreadableError: pypdfium2 is missing, the file is broken, encrypted or has no text.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise UnreadableError(MISSING) from error
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(
            f"could not be opened ({error}); save it again, unencrypted"
        ) from error
    try:
        texts = _pages(pdf, max_bytes)
        title = " ".join(pdf.get_metadata_value("Title").split())
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(f"a page could not be read ({error}); save it again") from error
    finally:
        pdf.close()
    if not any(text.strip() for text in texts):
        raise UnreadableError(
            "no text in it: scanned pages need optical character recognition first"
        )
    starts, length = [], 0
    for text in texts:
        starts.append(length)
        length += len(text) + 1
    return Document("\n".join(texts), title or PurePath(source).stem, source, pages=tuple(starts))


def _pages(pdf: Any, max_bytes: int) -> list[str]:
    texts, length = [], 0
    for number in range(len(pdf)):
        page = pdf[number]
        content = page.get_textpage()
        texts.append(_clean(content.get_text_range()))
        content.close()
        page.close()
        length += len(texts[-1])
        if length > max_bytes:
            raise too_large(max_bytes, "its text")
    return texts


def _clean(text: str) -> str:
    joined = PARTED.sub("", text.replace("\0", ""))
    paragraphs = PARAGRAPH_END.split(joined)
    return "\n\n".join(LINE_END.sub(" ", paragraph).strip() for paragraph in paragraphs)
