import sys

import pytest

from dalm.ingest.loaders.loader import LoaderOptions
from dalm.ingest.loaders.pdf import load_pdf
from dalm.io.text_lines import UnreadableError

pytest.importorskip("pypdfium2")


def test_pages_lines_and_title(document, make_pdf):
    data = make_pdf(["First line of a", "sentence."], ["Second page."], title="The title")
    found = document("a.pdf", data)
    assert found.text == "First line of a sentence.\nSecond page."
    assert found.pages == (0, 26)
    assert found.text[found.pages[1] :] == "Second page."
    assert found.title == "The title"
    assert document("b.pdf", make_pdf(["x y"])).title == "b"


def test_a_word_parted_at_a_lines_end_is_put_together(document, make_pdf):
    found = document("a.pdf", make_pdf(["This is permit-", "ted here and well-known."]))
    assert found.text == "This is permitted here and well-known."


def test_pages_without_text_are_reported(unread, make_pdf):
    assert "no text in it: scanned" in unread("a.pdf", make_pdf([], []))


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
