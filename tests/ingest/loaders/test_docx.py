import io
import zipfile

import pytest


def test_paragraphs_headings_notes_and_title(document, make_docx, make_paragraph):
    p = make_paragraph
    body = (
        p("Top", "Heading1") + p("One &amp; two.") + p("") + p("Teil", "berschrift2")
        + "<w:tbl><w:tr><w:tc>" + p("cell") + "</w:tc></w:tr></w:tbl>"
        + "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:delText>gone</w:delText>"
        + "<w:t>c</w:t></w:r></w:p>"
    )  # fmt: skip
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    styles = (
        f'<w:styles {space}><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/>'
        "</w:style></w:styles>"
    )
    core = '<cp xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Core title</dc:title></cp>'
    notes = f"<w:footnotes {space}><w:footnote>{p('a note')}</w:footnote></w:footnotes>"
    parts = {"word_styles": styles, "docProps_core": core, "word_footnotes": notes}
    found = document("a.docx", make_docx(body, **parts))
    assert found.text == "Top\n\nOne & two.\n\nTeil\n\ncell\n\na b\nc\n\na note"
    assert found.title == "Core title"
    assert [(h.level, h.text, h.start) for h in found.headings] == [(1, "Top", 0), (2, "Teil", 17)]
    assert document("a.docx", make_docx(body)).title == "Top"
    assert document("b.docx", make_docx(p("x"))).title == "b"


def test_a_zip_bomb_is_refused_by_size(unread, make_docx, make_paragraph):
    bomb = make_docx(make_paragraph("a" * 3_000_000))
    assert len(bomb) < 10_000
    assert "its unpacked text is over 1 MB" in unread("a.docx", bomb, max_bytes=1_000_000)


def test_a_size_that_lies_is_no_way_round(unread, make_docx, make_paragraph):
    bomb = make_docx(make_paragraph("a" * 3_000_000))
    size = next(
        i.file_size for i in zipfile.ZipFile(io.BytesIO(bomb)).infolist() if "doc" in i.filename
    )
    lying = bomb.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != bomb
    assert unread("a.docx", lying, max_bytes=1_000_000)


def test_an_xml_bomb_is_refused(unread):
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("word/document.xml", laughs)
    assert "DOCTYPE" in unread("a.docx", packed.getvalue())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_truncated_is_reported(unread, make_docx, make_paragraph, share):
    whole = make_docx(make_paragraph("text"))
    assert "not a Word file, or truncated" in unread("a.docx", whole[: int(len(whole) * share)])


def test_other_archives_are_no_word_files(unread):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "text")
    assert "no word/document.xml" in unread("a.docx", packed.getvalue())
    assert unread("a.zip", packed.getvalue()) == "an archive; unpack it first"


def test_broken_xml_is_reported(unread):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("word/document.xml", "<a><b></a>")
    assert "broken XML inside" in unread("a.docx", packed.getvalue())
