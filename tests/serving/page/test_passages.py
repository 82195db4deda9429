"""Passages: chips, previews, the pane with neighbours and original, ranks, sources."""

import json

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.serving.conftest import build_index
from tests.serving.page.conftest import HOSTILE


def pin(page, title: str) -> None:
    """Pin the passage of a list that has this text."""
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    page.run(
        "const rows = [...document.querySelectorAll('button.passage')];"
        "rows.findLast(row => row.textContent.includes(arguments[0])).click()",
        title,
    )


def choose(page, view: str) -> None:
    page.run("document.querySelector(`[name=view][value=${arguments[0]}]`).click()", view)


def test_cited_passages_stand_apart_and_no_chip_lacks_one(page):
    page.ask("Where does Ada live?")
    assert page.texts(".chip") == ["1", "1"]
    assert page.texts(".passages h3") == ["Cited", "Read, not cited: 2"]
    assert page.texts(".passages section .number") == ["passage 1"]
    assert len(page.texts(".passages details .number")) == 2
    assert not page.shown(".passages details button.passage")


def test_a_chip_shows_its_passage_under_the_pointer_and_on_focus(page):
    page.ask("Where does Ada live?")
    first = page.text("button.passage .snippet")
    ActionChains(page.driver).move_to_element(page.find(".chip")).perform()
    page.until("!document.getElementById('preview').hidden")
    assert page.text("#preview .text") == first
    ActionChains(page.driver).move_to_element(page.find("h1")).perform()
    page.until("document.getElementById('preview').hidden")
    page.run("document.activeElement.blur()")
    page.run(
        "const question = document.querySelector('.question');"
        "question.tabIndex = -1; question.focus()"
    )
    page.type(Keys.TAB)
    assert page.focused(".chip")
    assert page.run("return document.activeElement.getAttribute('aria-describedby')") == "preview"
    page.type(Keys.ESCAPE)
    assert not page.shown("#preview")
    assert page.focused(".chip")


def test_a_chip_pins_its_passage_with_its_place_and_gives_the_focus_back(page):
    page.ask("Where does Ada live?")
    page.click(".chip")
    title = page.text("button.passage .title")
    assert page.text("#pane-title") == title
    assert page.focused("#pane-title")
    assert page.text(".pinned") == page.text("button.passage .snippet")
    assert page.run("return document.querySelector('[aria-current]').dataset.number") == "1"
    page.type(Keys.ESCAPE)
    assert not page.shown("#pane")
    assert page.focused(".chip")


def test_the_pane_has_headings_page_and_neighbours(page):
    page.ask("Who keeps two cats?")
    choose(page, "search")
    page.ask("Cyrus keeps a dog.", 2)
    pin(page, f"People {HOSTILE}")
    assert page.text(".path") == f"Chapter 1 › {HOSTILE}"
    assert page.text(".pane-body > .quiet") == f"{HOSTILE}.pdf, page 12"
    assert not page.shown(".neighbour")
    pin(page, "Cyrus")
    page.until("!document.querySelector('.neighbour.after').hidden")
    assert page.text(".neighbour.before") == "Bela keeps two cats."
    assert page.text(".pinned") == "Cyrus keeps a dog."
    assert page.text(".neighbour.after") == "Dora keeps a red fox."


def test_arrows_step_through_the_passages(page):
    page.ask("Where does Ada live?")
    page.click(".chip")
    assert page.text(".stepper .quiet") == "1 of 3"
    page.type(Keys.ARROW_RIGHT)
    assert page.text(".stepper .quiet") == "2 of 3"
    page.type(Keys.ARROW_LEFT)
    assert page.text(".stepper .quiet") == "1 of 3"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of a PDF and a text."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "owls.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    (folder / "pets.txt").write_text(
        "Bela keeps two cats. Cyrus keeps a dog. Dora keeps a red fox."
    )
    return folder


def test_the_original_opens_at_its_place(reader, cited, page_index, files, generator):
    with cited(page_index, documents=str(files)) as url:
        reader.open(url)
        choose(reader, "search")
        reader.ask("Ada keeps one owl")
        pin(reader, "Owls")
        link = reader.until("document.querySelector('.original a')?.getAttribute('href')")
        assert link.endswith("/original#page=1")
        assert reader.text(".original a") == "Open the original at page 1"
        pin(reader, "Cyrus")
        link = reader.until("document.querySelector('.original a')?.getAttribute('href')")
        assert link.endswith("/original#:~:text=Cyrus%20keeps%20a%20dog.")
        reader.click(".original a")
        reader.driver.switch_to.window(reader.driver.window_handles[-1])
        assert "Cyrus keeps a dog" in reader.run("return document.body.textContent")
        reader.driver.close()
        reader.driver.switch_to.window(reader.driver.window_handles[0])
        pin(reader, f"People {HOSTILE}")  # its file isn't there
        assert not reader.shown(".original a")


def test_the_original_opens_behind_a_key(reader, cited, page_index, files, generator, monkeypatch):
    monkeypatch.setenv("DALM_API_KEY", "the-key")
    with cited(page_index, documents=str(files)) as url:
        reader.open(url, ready=False)
        reader.until("!document.getElementById('key-form').hidden")
        reader.find("#key").send_keys("the-key" + Keys.ENTER)
        reader.until("document.getElementById('key-form').hidden")
        choose(reader, "search")
        reader.ask("Ada keeps one owl")
        pin(reader, "Owls")
        reader.until("document.querySelector('.original a')")
        # Headless Chromium saves PDFs instead of showing them: look at what it is given.
        reader.run(
            "window.open = () => (window.opened = {});"
            "URL.createObjectURL = file => { window.file = file; return 'blob:it'; }"
        )
        reader.click(".original a")
        assert reader.until("window.opened?.location") == "blob:it#page=1"
        assert reader.run("return window.file.type") == "application/pdf"
        reader.run("window.file.text().then(text => { window.text = text; })")
        assert reader.until("window.text") == (files / "owls.pdf").read_text()


def test_ranks_by_stage_and_moves_are_told(page):
    page.ask("Where does Ada live?")
    page.press("Ranks")
    assert page.texts(".scores thead th") == ["Passage", "Text", "Dense", "Fused"]
    told = page.run(
        "return [...document.querySelectorAll('.scores tbody tr')].map(row =>"
        "[...row.cells].slice(1).map(cell => parseInt(cell.textContent)))"
    )
    assert [row[2] for row in told] == [1, 2, 3]
    assert page.shown("svg.slope")
    body = {"query": "Where does Ada live?", "top_k": 3}
    sent = page.run(
        "return fetch('/search', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        "body: arguments[0]}).then(r => r.json()).then(r => r.hits.map(h => h.ranks))",
        json.dumps(body),
    )
    assert [[row.get(s) for s in ("text", "dense", "fused")] for row in sent] == told
    page.press("Ranks")
    assert not page.shown(".scores")


def test_passages_alone_need_no_generator(page, generator):
    before = len(generator.bodies)
    choose(page, "search")
    page.ask("Who keeps a red fox?")
    assert len(page.texts("button.passage")) == 5
    assert page.texts(".passages h3") == ["5 passages"]
    assert len(generator.bodies) == before
    assert not page.shown(".chip")


def test_a_source_filters_what_is_searched(page):
    page.click("#sources")
    page.until("document.querySelectorAll('.choices li').length === 3")
    page.find("#pane input[type=search]").send_keys("OWL")
    assert (
        page.run("return [...document.querySelectorAll('.choices li:not([hidden])')].length") == 1
    )
    page.click(".choices li:not([hidden]) input")
    assert page.text("#sources .label") == "1 source"
    page.ask("Where does Ada live?")
    assert page.texts("button.passage .title") == ["Owls"]
    page.click("#sources")
    page.until("document.querySelector('.choices')")
    page.press("Search all sources")
    assert page.text("#sources .label") == "All sources"
    page.ask("Where does Ada live?", 2)
    assert len(page.texts("article:last-of-type button.passage")) == 3


def test_thirty_passages_are_listed_and_drawn_ten_at_most(reader, cited, tiny_models, tmp_path):
    rows = [{"Passage": f"Ada keeps owl number {n}.", "Title": "owl " * n} for n in range(1, 41)]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = build_index(tmp_path / "index", table, tiny_models.encoder)
    with cited(index) as url:
        reader.open(url)
        choose(reader, "search")
        reader.ask("Which owl does Ada keep?")
        reader.press("Ranks")
        assert len(reader.texts("button.passage")) == 30
        assert len(reader.texts(".scores tbody tr")) == 30
        assert reader.run("return document.querySelectorAll('.slope polyline').length") <= 10
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        reader.browser.size(390, 844, mobile=True)
        assert reader.run(f"return {wide}") == 0


def test_what_supports_the_answer_is_marked_where_it_is_certain(page, generator):
    generator.write = lambda _: "Bela keeps two cats [1]."
    page.ask("Who keeps two cats?")
    marked = page.run(
        "const found = {};"
        "for (const row of document.querySelectorAll('button.passage')) {"
        "  row.closest('details')?.toggleAttribute('open', true); row.click();"
        "  found[document.querySelector('.pinned').textContent] ="
        "    [...document.querySelectorAll('.pinned mark')].map(mark => mark.textContent);"
        "} return found"
    )
    assert len(marked) == 3
    assert marked.pop("Bela keeps two cats.") == ["Bela keeps two cats"]
    assert set(map(tuple, marked.values())) == {()}
