import codecs

import pytest

TEXT = "Grüße.\n\nZwei.\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-32"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_a_text_is_the_files_own(document, data):
    found = document("a file.txt", data)
    assert (found.text, found.title, found.source.split("/")[-1]) == (TEXT, "a file", "a file.txt")
    assert not found.headings
    assert len(found.id) == 16


def test_another_encoding_has_to_be_named(document, unread):
    data = TEXT.encode("cp1252")
    assert "line 1, byte 3 (0xfc): not UTF-8; save it as UTF-8, or name its --encoding" in unread(
        "a.txt", data
    )
    assert "line 2, byte 2 (0xe9)" in unread("a.txt", b"ab\nc\xe9")
    assert document("a.txt", data, encoding="cp1252").text == TEXT


POLISH = "Każdy pracownik powinien złożyć wniosek do końca miesiąca, żeby otrzymać zwrot kosztów."
GERMAN = "Größere Mengen müssen früher geprüft werden, weil die Qualität sonst schwankt."


def test_likely_encodings_are_suggested_and_not_used(unread):
    for text, encoding in ((POLISH, "cp1250"), (GERMAN, "cp1252 or cp1250")):
        lines = (text + "\n").encode(encoding[:6]) * 400
        reason = unread("a.txt", b"ASCII only.\n" * 2000 + lines)
        assert "line 2001, byte 3 (0x" in reason
        assert (
            f"not UTF-8; save it as UTF-8, or name its --encoding (it may be {encoding}" in reason
        )
    assert "may be" not in unread("a.txt", b"too short \xe9")


@pytest.mark.parametrize("data", [b"", b" \n\t ", "\u2003\n".encode()])
def test_an_empty_file_is_reported_as_empty(unread, data):
    assert unread("a.txt", data) in ("it is empty", "there is no text in it")


def test_bytes_that_are_no_text_are_refused(unread):
    assert "a NUL byte" in unread("a.txt", b"ab\0c")
    assert "over 0.0001 MB; split it" in unread("a.txt", b"x" * 101, max_bytes=100)


def test_a_byte_order_mark_does_not_move_the_place_of_an_error(unread):
    reason = unread("a.txt", b"\xef\xbb\xbfone\ntwo \xff")
    assert reason.startswith("line 2, byte 5 (0xff): not UTF-8")


def test_a_line_drawn_between_paragraphs_is_omitted_and_an_underline_stays(document):
    text = "One.\n\n----------\n\nTitle\n==========\n\nTwo.\n\n==========\n"
    found = document("a.txt", text)
    assert found.excerpt(0, len(text)) == "One.\n\n\nTitle\n==========\n\nTwo.\n\n"
