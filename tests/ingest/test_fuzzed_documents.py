"""Whatever a file holds: documents or a reason, never an exception, and no word lost in cutting."""

import io
import json
import re
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dalm.ingest.chunking import Chunker
from dalm.ingest.length_limit import WordLimit
from dalm.ingest.loaders import read_documents
from dalm.ingest.loaders.loader import Document, File, LoaderOptions, Skipped
from dalm.ingest.words import split_words
from tests.ingest.pdf_files import At, Picture, column
from tests.ingest.pdf_files import make as make_pdf_file

LIMIT = 20_000
few = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(path: Path, data: bytes, most: int = LIMIT) -> list[Document | Skipped]:
    path.write_bytes(data)
    reading = LoaderOptions(max_bytes=most)
    found = list(read_documents(File(path, path.name, len(data)), reading))
    assert found, "nothing was read and nothing reported"
    for each in found:
        if isinstance(each, Skipped):
            assert each.reason
            assert each.source.startswith(path.name)
            assert "it could not be read (" not in each.reason, "a reason that nobody thought of"
        else:
            cut(each)
    return found


def cut(document: Document) -> None:
    document.id.encode()
    json.dumps(document.title, ensure_ascii=False).encode()
    passages = Chunker(WordLimit(12)).split(document)
    joined = "".join(document.excerpt(each.start, each.end) for each in passages)
    whole = document.excerpt(document.begin, len(document.text))
    assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", whole)
    for each in passages:
        assert len(split_words(each.text)) <= 12
        assert each.text.endswith(document.excerpt(each.start, each.end))
    for block in document.blocks:
        assert 0 <= block.start < block.end <= len(document.text)
        assert list(block.units) == sorted({block.start, *block.units})
        assert block.units[-1] < block.end
        assert block.header_end == 0 or block.header_end in block.units
    assert all(a < b for a, b in document.omitted)
    assert all(a[1] < b[0] for a, b in pairwise(document.omitted))


MORE = ".pptx .xlsx .odt .rtf .eml .epub .ipynb .rst .tex .xml".split()
MARKS = ["<", ">", "</", "<!--", "-->", "&", "&#", ";", '"', "'", "=", "[", "]", "{", "}", ",", ":"]
MARKS += [
    "#",
    "---\n",
    "```",
    "\n",
    "\r",
    "\t",
    "\\",
    "\0",
    "\ufeff",
    "\ud7ff",
    "é",
    "漢",
    " ",
    "a",
]
MARKS += [
    "text",
    "title: x\n",
    "null",
    "1e999",
    "\\ud800",
    "<h1>",
    "</h1>",
    "<nav>",
    "<pre>",
    "<br>",
]
MARKS += ["<script>", "<svg>", "<![CDATA[", "<?xml", "<title>", "<td>", "</p>", "<meta charset=x>"]
MARKS += [
    "- ",
    "1. ",
    "| ",
    "|---|---|\n",
    "+---+\n",
    "--- ---\n",
    "    ",
    "Lead:\n\n",
    "1.1 a .... 3\n",
]
MARKS += ["<tr>", "<th>", "<li>", "<ul>", "+++\n", "](data:a/b;base64,", "[a]: b/c\n", "Contents\n"]
MARKS += [
    "\\begin{itemize}\\item ",
    "\\end{itemize}",
    "\\section{",
    "$",
    "%",
    "&",
    "..",
    "::",
    "===",
]
MARKS += [
    "+---+",
    "| ",
    "* ",
    "   ",
    "{\\rtf1 ",
    "\\par ",
    "\\'e9",
    "\\u8364 ?",
    "\\cell\\row ",
    "{\\*",
]
MARKS += ["From: a\n", "Content-Type: multipart/mixed; boundary=x\n\n", "--x\n"]
soup = st.lists(st.sampled_from(MARKS), max_size=60).map("".join).map(str.encode)
anything = st.binary(max_size=200) | soup


@pytest.mark.parametrize("suffix", [".txt", ".md", ".html", ".docx", ".pdf", *MORE])
@given(data=anything)
@few
def test_any_bytes_by_any_name(tmp_path, suffix, data):
    check(tmp_path / f"a{suffix}", data)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
@given(data=anything | soup.map(lambda soup: b'text,title\na,"b"\n' + soup))
@few
def test_any_bytes_as_a_table(tmp_path, suffix, data):
    check(tmp_path / f"a{suffix}", data)


@given(rows=st.lists(st.text(max_size=30), min_size=1, max_size=6), place=st.integers(0, 200))
@few
def test_a_stray_quote_loses_no_row_in_silence(tmp_path, rows, place):
    lines = ["text,n"] + ['"' + row.replace('"', '""') + '",1' for row in rows]
    whole = "\n".join(lines).encode(errors="replace") + b"\n"
    broken = whole[: place % len(whole)] + b'"' + whole[place % len(whole) :]
    found = check(tmp_path / "a.csv", broken)
    if not any(isinstance(each, Skipped) for each in found):
        assert [each.text for each in found] == [
            row.encode(errors="replace").decode() for row in rows
        ]


@given(place=st.integers(0, 2000), size=st.integers(0, 2000), byte=st.integers(0, 255))
@few
def test_word_files_cut_short_or_spoilt(tmp_path, make_docx, make_paragraph, place, size, byte):
    whole = make_docx("".join(make_paragraph(f"text {n}") for n in range(20)))
    spoilt = bytearray(whole)
    spoilt[place % len(whole)] = byte
    check(tmp_path / "a.docx", whole[: size % len(whole)])
    check(tmp_path / "a.docx", bytes(spoilt))


@given(place=st.integers(0, 2000), size=st.integers(0, 2000), byte=st.integers(0, 255))
@few
def test_pdfs_cut_short_or_spoilt(tmp_path, make_pdf, place, size, byte):
    pytest.importorskip("pypdfium2")
    whole = make_pdf(["one line", "and another"], ["a page"], title="t")
    spoilt = bytearray(whole)
    spoilt[place % len(whole)] = byte
    check(tmp_path / "a.pdf", whole[: size % len(whole)])
    check(tmp_path / "a.pdf", bytes(spoilt))


RICH_PDF = make_pdf_file(
    [At(72, 720, "Pumps", 16, "F2"), *column(["one line of text", "• an item", "1. another"])],
    [At(x, 700 - 14 * n, f"c{n}") for n in range(4) for x in (72, 200)],
    [Picture(), At(72, 300, "def f(x):", font="F3"), At(90, 288, "return x", font="F3")],
    [
        At(0, 0, "turned", matrix="0 1 -1 0 300 300"),
        At(72, 20, "4"),
        At(72, 700, "\x01\x02", font="F4"),
    ],
    title="t",
    outline=[("Pumps", 0, 730), ("c1", 1, 700)],
)


@given(
    place=st.integers(0, len(RICH_PDF) - 1),
    size=st.integers(0, len(RICH_PDF)),
    byte=st.integers(0, 255),
)
@few
def test_pdfs_of_many_parts_cut_short_or_spoilt(tmp_path, place, size, byte):
    pytest.importorskip("pypdfium2")
    spoilt = bytearray(RICH_PDF)
    spoilt[place] = byte
    check(tmp_path / "a.pdf", bytes(spoilt))
    check(tmp_path / "b.pdf", RICH_PDF[:size])


words = st.lists(
    st.sampled_from("pump oil valve x1 12. • 3.1 The Ende".split()), min_size=1, max_size=6
)
placed = st.builds(
    At,
    st.integers(0, 400),
    st.integers(0, 780),
    words.map(" ".join),
    st.sampled_from([6, 10, 10, 16]),
    st.sampled_from(["F1", "F1", "F2", "F3"]),
)


@given(items=st.lists(placed, min_size=1, max_size=20, unique_by=lambda each: each.y // 20))
@few
def test_no_word_of_a_page_is_lost_wherever_it_stands(tmp_path, items):
    pytest.importorskip("pypdfium2")
    [document] = check(tmp_path / "a.pdf", make_pdf_file(items))
    for each in items:
        assert all(word in document.text for word in each.text.split()), each


PARTS = {
    ".docx": ["word/document.xml", "word/styles.xml", "word/numbering.xml", "word/footnotes.xml"],
    ".pptx": ["ppt/presentation.xml", "ppt/_rels/presentation.xml.rels", "ppt/slides/slide1.xml"],
    ".xlsx": ["xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/sharedStrings.xml"],
    ".odt": ["content.xml", "meta.xml"],
    ".epub": ["META-INF/container.xml", "META-INF/encryption.xml"],
}


@pytest.mark.parametrize("suffix", PARTS)
@given(xml=soup)
@few
def test_archives_of_any_xml(tmp_path, suffix, xml):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for part in PARTS[suffix]:
            archive.writestr(part, xml)
    check(tmp_path / f"a{suffix}", packed.getvalue())


MANUALS = Path(__file__).parent / "loaders" / "manuals"


@pytest.mark.parametrize("name", sorted(path.name for path in MANUALS.glob("*.*")))
@given(place=st.integers(0, 10**6), size=st.integers(0, 10**6), marks=soup)
@settings(few, max_examples=10)
def test_files_cut_short_or_spoilt(tmp_path, name, place, size, marks):
    """Spoil the parts of an archive too, which its checksums would hide."""
    whole = (MANUALS / name).read_bytes()
    path = tmp_path / name
    check(path, whole[: size % len(whole)], most=len(whole) * 20)
    if not zipfile.is_zipfile(MANUALS / name):
        spoilt = whole[: place % len(whole)] + marks + whole[place % len(whole) :]
        check(path, spoilt, most=len(whole) * 20)
        return
    packed = io.BytesIO()
    with zipfile.ZipFile(MANUALS / name) as old, zipfile.ZipFile(packed, "w") as new:
        for number, part in enumerate(old.namelist()):
            data = old.read(part)
            if part.endswith("ml") and number % 3 == size % 3:
                at = data.find(b"<", place % max(len(data), 1))
                end = data.find(b">", at) + 1
                data = data[:at] + data[end:] if size % 2 else data[:at] + marks + data[at:]
            new.writestr(part, data)
    check(path, packed.getvalue(), most=10**6)


@pytest.mark.parametrize(
    "suffix", [".txt", ".md", ".html", ".docx", ".pdf", ".csv", ".jsonl", ".json", *MORE]
)
def test_empty_and_enormous_files(tmp_path, suffix):
    [empty] = check(tmp_path / f"a{suffix}", b"")
    assert empty.reason in ("it is empty", "it is empty; its first line must name the columns")
    [large] = check(tmp_path / f"a{suffix}", b"x" * (LIMIT + 1))
    assert "is over 0.02 MB" in large.reason


@pytest.mark.parametrize(
    "unit", ["<div>", "<b><p>", "<!--", "<", "</a>", "&", "<a b='", "<table><tr>", "<![CDATA["]
)
def test_html_that_repeats_is_read_in_a_moment(tmp_path, unit):
    data = (unit * 300_000)[:300_000].encode()
    path = tmp_path / "a.html"
    path.write_bytes(data)
    assert list(read_documents(File(path, "a.html", len(data)), LoaderOptions()))
