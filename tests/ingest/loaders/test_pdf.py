import sys

import pytest

from dalm.ingest.loaders.loader import LoaderOptions
from dalm.ingest.loaders.pdf import load_pdf
from dalm.ingest.loaders.pdf_coverage import is_implausible, page_ranges
from dalm.io.text_lines import UnreadableError
from tests.ingest.pdf_files import FONTS, At, Picture, column, file_of, make

pytest.importorskip("pypdfium2")

ODD = "".join(chr(1 + 7 * n % 9) for n in range(60))
OCR = "OCR them first, for example with ocrmypdf"


def load(data: bytes):
    return load_pdf(data, "a.pdf", LoaderOptions())


def test_pages_lines_and_title(document, make_pdf):
    data = make_pdf(["First line of a", "sentence."], ["Second page."], title="The title")
    found = document("a.pdf", data)
    assert found.text == "First line of a sentence.\n\nSecond page."
    assert found.pages == (0, 27)
    assert found.text[found.pages[1] :] == "Second page."
    assert found.title == "The title"
    assert found.unread == ()
    assert document("b.pdf", make_pdf(["x y"])).title == "b"


@pytest.mark.parametrize(
    "junk", ["Microsoft Word - manual_v3.doc", "untitled", "(anonymous)", "a.indd", " - "]
)
def test_a_title_that_a_program_made_up_gives_way_to_the_largest_line(document, junk):
    page = [At(72, 740, "Pump manual", 24), *column(["All about the pump."] * 3)]
    assert document("a.pdf", make(page, title=junk)).title == "Pump manual"
    assert document("a.pdf", make(page, title="Named")).title == "Named"


# Pages that can't be read


def test_pages_without_a_text_layer_are_named_and_the_others_read():
    text = column(["A page of text, that says something."])
    found = load(make(text, [Picture()], [Picture()], [], text, [Picture()]))
    assert found.text.count("A page of text") == 2
    assert found.unread == (f"pages 2-3, 6: no text; {OCR}",)
    assert found.pages == (0, 38, 38, 38, 38, 74)


def test_a_stamp_on_a_scanned_page_makes_it_no_page_of_text():
    pages = [[Picture(), At(72, 20, f"Scan 0{n}")] for n in range(4)]
    [reason] = load(make(*pages, column(["A page of text."]))).unread
    assert reason.startswith("pages 1-4: ")
    assert OCR in reason


def test_garbled_pages_are_named_and_left_out():
    text = column(["A page of text, that says something."])
    found = load(make(text, [At(72, 700, ODD, font="F4")]))
    assert found.text == "A page of text, that says something."
    assert found.unread == (
        f"page 2: garbled text, for its fonts have no map to Unicode; {OCR} --force-ocr",
    )


def test_single_characters_without_a_code_are_counted():
    found = load(
        make([*column(["A page of text, that says something."]), At(72, 600, ODD[:8], font="F4")])
    )
    assert found.text == "A page of text, that says something."
    assert found.unread[0].startswith("page 1: 6 characters without a code in Unicode are left out")


def test_texts_of_no_language_are_implausible():
    assert is_implausible('%$(7*) +="#!;& 1$2"34\'5 <:@>' * 10)
    assert is_implausible("xkcdfg brtzwv pl qrstkk hjkllm mnpqrr " * 10)
    assert not is_implausible("the pump and the valve of the house " * 10)
    assert not is_implausible("1.2 Pumps . . . . . . . . . . . . . . . 14\n" * 20)
    assert not is_implausible("čerpadlo a ventil ve sklepě domu, strč prst skrz krk " * 10)
    assert not is_implausible("насос и клапан дома " * 20)
    assert not is_implausible("泵和阀门，水箱。" * 50)
    assert not is_implausible("P-11 12 mm 4 kg 230 V 50 Hz\nc12 c13 MPa kW\n" * 40)
    assert not is_implausible("12.5 44 1,000 77% 31.0\n" * 30)


def test_a_file_of_scans_is_refused_with_the_same_remedy(unread):
    assert (
        unread("a.pdf", make([Picture()], [Picture()]))
        == f"no text in it: pages 1-2: no text; {OCR}"
    )


def test_an_empty_file_needs_no_ocr(unread, make_pdf):
    assert unread("a.pdf", make_pdf([], [])) == "no text in it: its pages are empty"


def test_a_broken_page_is_named_and_the_others_read():
    data = make(*(column([f"This is page {w} of the book."]) for w in ("one", "two", "three")))
    place = data.index(b"/Type /Page ", data.index(b"/Type /Page ") + 10)
    broken = data[:place] + b"/Type /Pagx " + data[place + 12 :]
    found = load(broken)
    assert "page one of" in found.text
    assert "page three of" in found.text
    assert "page two of" in found.text or "page 2: damaged" in found.unread[0]


def test_a_page_that_pdfium_refuses_is_named(monkeypatch):
    import pypdfium2

    opened, read = pypdfium2.PdfDocument.get_page, pypdfium2.PdfPage.get_textpage
    second = []

    def remember(pdf, number):
        page = opened(pdf, number)
        second.extend([page] if number == 1 else [])
        return page

    def refuse(page):
        if page in second:
            raise pypdfium2.PdfiumError("Failed to load text page.")
        return read(page)

    monkeypatch.setattr(pypdfium2.PdfDocument, "__getitem__", remember)
    monkeypatch.setattr(pypdfium2.PdfPage, "get_textpage", refuse)
    found = load(
        make(*(column([f"This is page {w} of the book."]) for w in ("one", "two", "three")))
    )
    assert found.text == "This is page one of the book.\n\nThis is page three of the book."
    assert found.unread == ("page 2: damaged (Failed to load text page); save the file again",)
    assert found.pages == (0, 31, 31)


def test_what_is_on_no_page_is_named():
    text = column(["A page of text."])
    xfa = "/AcroForm << /Fields [] /XFA (x) >> /NeedsRendering true"
    assert "an XFA form" in load(make(text, catalog=xfa)).unread[0]
    file = "<< /Type /Filespec /F (a.txt) /UF (a.txt) >>"
    attached = f"/Names << /EmbeddedFiles << /Names [(a.txt) {file}] >> >>"
    assert load(make(text, catalog=attached)).unread == ("1 attached file: save them beside it",)


def test_a_broken_file_is_reported(unread, make_pdf):
    whole = make_pdf(["text"])
    assert "could not be opened" in unread("a.pdf", b"%PDF-1.4 nothing")
    assert "could not be opened" in unread("a.pdf", whole[:40])


def test_a_text_over_the_limit_is_refused(make_pdf):
    data = make_pdf(*(["word " * 20] for _ in range(3)))
    assert len(load_pdf(data, "a.pdf", LoaderOptions(max_bytes=310)).text) == 299
    with pytest.raises(UnreadableError, match="its text is over"):
        load_pdf(data, "a.pdf", LoaderOptions(max_bytes=200))


def test_without_the_extra_the_remedy_is_named(unread, make_pdf, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    assert 'pip install "indomain[pdf]"' in unread("a.pdf", make_pdf(["x"]))


def test_page_numbers_are_written_as_people_write_them():
    assert page_ranges([4]) == "page 5"
    assert page_ranges([1, 2, 3, 6]) == "pages 2-4, 7"
    assert page_ranges(range(0, 40, 2)).endswith("21, 23 and 8 other ranges")


def test_what_was_typed_on_a_page_in_a_viewer_is_text():
    def stream(head: str, text: str, place: str = "2 5") -> bytes:
        drawn = f"BT /F1 12 Tf {place} Td ({text}) Tj ET"
        return f"<< {head} /Length {len(drawn)} >>\nstream\n{drawn}\nendstream".encode()

    fonts = f"/Resources << /Font << /F1 << /Type /Font /Subtype {FONTS['F1']} >> >> >>"
    typed = "/Type /Annot /Subtype /FreeText /Rect [72 600 300 620] /F 4 /AP << /N 6 0 R >>"
    data = file_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R {fonts} "
            "/Annots [5 0 R] >>".encode(),
            stream("", "Printed words", "72 700"),
            f"<< {typed} >>".encode(),
            stream(f"/Type /XObject /Subtype /Form /BBox [0 0 228 20] {fonts}", "Typed words"),
        ]
    )
    assert sorted(load(data).text.split("\n\n")) == ["Printed words", "Typed words"]
