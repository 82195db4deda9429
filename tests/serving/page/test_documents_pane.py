"""Documents are added and removed on the page where the server allows it."""

import json
import shutil

import pytest

from tests.serving.conftest import build_index


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


def test_a_file_that_is_too_large_is_said_to_be_before_it_is_sent(own):
    own.run(
        "const data = new DataTransfer();"
        "data.items.add(new File([new Uint8Array(33e6)], 'large.txt'));"
        "dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true}))"
    )
    told = own.until("document.querySelector('.jobs .not-kept')?.textContent")
    assert told == "Not added: the file is larger than 32 MB; split it"


def test_documents_without_a_source_are_told_apart(own, tiny_models, tmp_path, cited):
    rows = [
        {"Passage": f"Hugo keeps {count} hens.", "Title": "Notice", "document": f"n{count}"}
        for count in ("two", "six")
    ]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = build_index(tmp_path / "notices", table, tiny_models.encoder)
    with cited(index, allow_uploads=True) as url:
        own.open(url)
        own.click("#documents")
        own.until("document.querySelectorAll('.documents li').length")
        assert own.texts(".documents .title") == ["Notice", "Notice"]
