"""A stranger's file is read within its limits, whole or not at all, and the reason names it."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from dalm.config import Passages
from dalm.ingest.uploads import (
    ReadingLimits,
    RefusedFileError,
    UnsupportedFileError,
    Upload,
    extension_of,
    read_file,
    read_upload,
)
from tests.ingest.pdf_files import Picture, column, file_of, make

LIMITS = ReadingLimits(seconds=20, megabytes=400)
SENTENCE = "Some words that are a text."


def read(folder: Path, label: str, data: bytes, limits: ReadingLimits | None = None) -> Upload:
    """Read it in this process; with limits in one of its own."""
    path = folder / f"upload{extension_of(label)}"
    path.write_bytes(data)
    settings = Passages(output="", near_duplicates=1.0, max_megabytes=8, max_words=8)
    if limits is None:
        return read_file(path, label, settings)
    return read_upload(path, label, settings, limits)


def nested_forms(levels: int, each: int) -> bytes:
    """A small PDF whose page draws a form that draws a form ...: each ** levels texts."""
    forms = [
        (b"/XObject << /F %d 0 R >>" % (7 + level), b"/F Do\n" * each) for level in range(levels)
    ]
    text = b"BT /F1 12 Tf (words) Tj ET\n" * each
    forms.append((b"/Font << /F1 5 0 R >>", text))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /XObject << /F 6 0 R >> >> >>",
        b"<< /Length 5 >>\nstream\n/F Do\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    objects += [
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << %s >> /Length %d >>"
        b"\nstream\n%s\nendstream" % (resources, len(content), content)
        for resources, content in forms
    ]
    return file_of(objects)


def test_a_file_is_split_into_passages_that_name_it(tmp_path, make_pdf):
    pages = [["The pump needs oil every week."], ["The valve is opened by hand."]]
    found = read(tmp_path, "a folder/Manual.PDF", make_pdf(*pages, title="Pumps"), LIMITS)
    assert [(p.source, p.title, p.page) for p in found.passages] == [
        ("a folder/Manual.PDF", "Pumps", 1),
        ("a folder/Manual.PDF", "Pumps", 2),
    ]


def test_rows_that_cannot_be_read_are_named(tmp_path):
    table = json.dumps({"text": SENTENCE}) + "\n{broken\n"
    found = read(tmp_path, "rows.jsonl.gz", gzip.compress(table.encode()))
    assert [passage.text for passage in found.passages] == [SENTENCE]
    assert [each.source for each in found.unread] == ["rows.jsonl.gz, line 2"]


def test_pages_that_cannot_be_read_are_named_and_the_others_read(tmp_path):
    pages = (column(["The pump needs oil every week."]), [Picture()])
    found = read(tmp_path, "scan.pdf", make(*pages), LIMITS)
    assert [passage.page for passage in found.passages] == [1]
    [part] = found.unread
    assert (part.source, part.part) == ("scan.pdf", True)
    assert part.reason.startswith("page 2: no text")
    few = make(column(["Two words"]), [Picture()])
    with pytest.raises(RefusedFileError, match=r"few\.pdf: too little of it .* page 2: no text"):
        read(tmp_path, "few.pdf", few)


def word_bomb() -> bytes:
    return gzip.compress(b"text\n" + b"a " * 50_000_000)


@pytest.mark.parametrize(
    ("label", "data", "reason"),
    [
        ("empty.txt", b"", "it is empty"),
        ("short.txt", b"two words", "too short: a document has at least 5 words"),
        ("picture.pdf", b"\x89PNG\r\n\x1a\n", "could not be opened"),
        ("text.docx", SENTENCE.encode(), "not a Word file"),
        ("latin.txt", "aus Köln, schöne Grüße".encode("latin-1"), "or name its encoding"),
        ("bomb.csv.gz", word_bomb(), "unpacks to over 100 MB"),
        ("table.csv", b"A,B\n1,2\n", "name it: text_column NAME"),
        ("rows.jsonl", b"{broken\n", "no row can be read: rows.jsonl, line 1"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, label, data, reason):
    with pytest.raises(RefusedFileError) as caught:
        read(tmp_path, label, data)
    assert str(caught.value).startswith(f"{label}: ")
    assert reason in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_process_says_why_it_refuses(tmp_path):
    with pytest.raises(RefusedFileError, match=r"^a/short\.txt: it is too short"):
        read(tmp_path, "a/short.txt", b"two words", LIMITS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_file_that_fills_the_memory_is_refused(tmp_path):
    with pytest.raises(RefusedFileError, match="more than 50 MB of memory"):
        read(tmp_path, "forms.pdf", nested_forms(7, 10), ReadingLimits(20, megabytes=50))


def test_a_file_that_takes_too_long_is_refused(tmp_path):
    with pytest.raises(RefusedFileError, match="longer than 1 seconds"):
        read(tmp_path, "forms.pdf", nested_forms(6, 10), ReadingLimits(1, megabytes=2000))


@pytest.mark.parametrize(
    ("label", "extension"),
    [
        ("../../etc/passwd.txt", ".txt"),
        ("C:\\files\\Table.CSV.GZ", ".csv.gz"),
        ("a/b.md", ".md"),
        ("x.csv/../y.pdf", ".pdf"),
    ],
)
def test_an_extension_is_one_of_the_loaders(label, extension):
    assert extension_of(label) == extension


@pytest.mark.parametrize(
    "label", ["", "passwd", "a.exe", "a.zip", ".txt", "a.txt/", "a.txt\0.sh", "b.pdf.gz"]
)
def test_other_kinds_of_file_are_refused(label):
    with pytest.raises(UnsupportedFileError, match=r"supported: \.txt"):
        extension_of(label)
