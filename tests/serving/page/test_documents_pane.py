"""Documents are added and removed on the page where the server allows it."""

import shutil

import pytest


@pytest.fixture
def own(reader, cited, page_index, tmp_path, generator):
    """The page of a server whose documents may be changed."""
    shutil.copytree(page_index, tmp_path / "index")
    with cited(tmp_path / "index", allow_uploads=True) as url:
        reader.open(url)
        reader.click("#documents")
        reader.until("document.querySelectorAll('.documents li').length === 3")
        yield reader


def test_a_document_is_added_found_and_removed(own, tmp_path):
    file = tmp_path / "Gero.txt"
    file.write_text("Gero keeps an old horse in Basel. " * 4)
    own.find("#file").send_keys(str(file))
    own.until("document.querySelector('.jobs .quiet')?.textContent.startsWith('Added: 1 passage')")
    own.until("document.querySelectorAll('.documents li').length === 4")
    assert "Gero.txt" in own.texts(".documents .title")
    own.ask("Gero keeps an old horse")
    assert any("old horse in Basel" in text for text in own.texts(".snippet"))
    own.click("#documents")
    own.until("document.querySelectorAll('.documents li').length === 4")
    own.press("Remove Gero.txt")
    assert own.focused(".asks .danger")
    own.press("Keep", ".asks:not([hidden])")
    assert own.run("return document.activeElement.ariaLabel") == "Remove Gero.txt"
    own.press("Remove Gero.txt")
    own.run("document.activeElement.click()")
    own.until("document.querySelectorAll('.documents li').length === 3")
    assert "Gero.txt" not in own.texts(".documents .title")


def test_what_cannot_be_read_is_said_in_plain_words(own, tmp_path):
    file = tmp_path / "film.mp4"
    file.write_bytes(b"\0\1\2")
    own.find("#file").send_keys(str(file))
    told = own.until("document.querySelector('.jobs .not-kept')?.textContent")
    assert told.startswith("Not added:")
    assert ".mp4" in told
    assert own.texts(".jobs button") == ["Try again"]


def test_files_can_be_dropped(own):
    own.run(
        "const data = new DataTransfer();"
        "data.items.add(new File(['Hilde lives in Essen, with two cats.'], 'Hilde.txt'));"
        "for (const type of ['dragover', 'drop']) dispatchEvent(new DragEvent(type,"
        "{dataTransfer: data, bubbles: true, cancelable: true}))"
    )
    own.until("document.querySelectorAll('.documents li').length === 4")
    assert "Hilde.txt" in own.texts(".documents .title")


def test_elsewhere_documents_are_listed_only(page):
    page.click("#documents")
    page.until("document.querySelectorAll('.documents li').length === 3")
    assert not page.shown("#file")
    assert page.texts(".documents button") == []
    assert "can't be changed" in page.text("#pane")
