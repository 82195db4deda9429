"""Files as their programs would write them, made by hand: small Word and PDF files."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dalm.ingest.loaders import find_files, read_documents
from dalm.ingest.loaders.loader import Document, LoaderOptions, Skipped
from tests.ingest.pdf_files import file_of

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def docx(body: str, **parts: str) -> bytes:
    """Return a Word file of this body; other parts by their names, `_` for `/`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(
            "word/document.xml", f"<w:document {W}><w:body>{body}</w:body></w:document>"
        )
        for name, text in parts.items():
            archive.writestr(name.replace("_", "/") + ".xml", text)
    return packed.getvalue()


def paragraph(text: str, style: str = "") -> str:
    shown = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{shown}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def pdf(*pages: list[str], title: str = "") -> bytes:
    """Return a PDF of pages, each a list of lines."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, lines in enumerate(pages):
        shown = "\n".join(f"({line}) Tj 0 -14 Td" for line in lines)
        stream = f"BT /F1 12 Tf 72 720 Td\n{shown}\nET".encode("latin-1")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    objects.append(f"<< /Title ({title}) >>".encode())
    return file_of(objects, info=len(objects))


Read = Callable[..., list[Document | Skipped]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a file, and read its documents."""

    def read(name: str, content: bytes | str, **reading: object) -> list[Document | Skipped]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        files, unread = find_files([str(path)])
        assert not unread or not files
        options = LoaderOptions(**reading)
        return [*unread, *(each for f in files for each in read_documents(f, options))]

    return read


@pytest.fixture
def document(read: Read) -> Callable[..., Document]:
    """Write a file, and read the one document that it is."""

    def document(name: str, content: bytes | str, **reading: object) -> Document:
        [found] = read(name, content, **reading)
        assert isinstance(found, Document), found
        assert all(found.text[h.start : h.end].strip() for h in found.headings)
        return found

    return document


@pytest.fixture
def unread(read: Read) -> Callable[..., str]:
    """Write a file, and return why it can't be read."""

    def unread(name: str, content: bytes | str, **reading: object) -> str:
        [found] = read(name, content, **reading)
        assert isinstance(found, Skipped), found
        assert name in found.source
        assert "\n" not in found.reason
        return found.reason

    return unread


@pytest.fixture
def make_docx() -> Callable[..., bytes]:
    return docx


@pytest.fixture
def make_paragraph() -> Callable[..., str]:
    return paragraph


@pytest.fixture
def make_pdf() -> Callable[..., bytes]:
    return pdf
