"""The page in a real browser: it asks, streams, stops, cites, and loads nothing else."""

import json
import re

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.llm.stub_server import serving as stub_serving
from tests.serving.conftest import build_index

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
ANSWER = f"Ada lives in Ulm [1], as {HOSTILE} says [1, 9] and **no one** else."


@pytest.fixture(scope="module")
def hostile_index(tiny_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    rows = [
        {
            "Passage": f"Ada lives in Ulm. {HOSTILE}",
            "Title": f"People {HOSTILE}",
            "source": f"{HOSTILE}.pdf",
            "page": 12,
            "headings": ["Chapter 1", HOSTILE],
        },
        {"Passage": "Bela keeps two cats.", "Title": "Pets", "source": "pets.pdf", "page": 2},
    ]
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_index(folder / "index", table, tiny_models.encoder)


@pytest.fixture(scope="module")
def generator():
    with stub_serving() as stub:
        stub.write = lambda _: ANSWER
        yield stub


@pytest.fixture(scope="module")
def address(serving, hostile_index, generator):
    options = {"generator_url": generator.url, "generator_model": "stub", "citations": True}
    with serving(hostile_index, **options) as url:
        yield url


@pytest.fixture
def page(browser, address):
    open_page(browser, address)
    return browser


def open_page(browser, address):
    browser.size(1200, 900)
    browser.driver.get(address)
    browser.run("sessionStorage.clear()")
    browser.driver.get(address)


def until(page, script: str, *arguments: object):
    """Wait until a script gives something true; return it."""
    return WebDriverWait(page.driver, 20, 0.05).until(
        lambda _: page.run(f"return {script}", *arguments), script
    )


def ask(page, question: str) -> None:
    page.driver.find_element(By.ID, "question").send_keys(question + "\n")


def finished(page, turns: int = 1) -> None:
    until(page, f"document.querySelectorAll('.answer[aria-busy=false]').length === {turns}")


def text(page, selector: str) -> str:
    return page.run("return document.querySelector(arguments[0]).textContent", selector)


def test_it_answers_with_the_passages_and_loads_nothing_else(page, address):
    until(page, "document.getElementById('model').textContent === 'stub'")
    ask(page, "Where does Ada live?")
    finished(page)
    assert text(page, ".question") == "Where does Ada live?"
    assert re.sub(r"\s+", " ", text(page, ".answer")).startswith("Ada lives in Ulm")
    assert "1 cited" in text(page, ".passages summary")
    titles = page.run(
        "return [...document.querySelectorAll('.passage .title')].map(t => t.textContent)"
    )
    assert f"People {HOSTILE}" in page.run(f"return {titles}")
    assert text(page, ".passage .origin").endswith((".pdf, page 12", "pets.pdf, page 2"))
    assert {url.split("/")[2] for url in page.requests()} == {address.split("/")[2]}
    assert page.complaints() == []


def test_texts_never_become_markup(page):
    ask(page, f"What is {HOSTILE}?")
    finished(page)
    count = "document.querySelectorAll('main img, main script, main b').length"
    assert page.run(f"return {count}") == 0
    assert HOSTILE in text(page, ".question")
    assert HOSTILE in text(page, ".answer")
    shown = page.run("return document.getElementById('turns').textContent")
    assert shown.count(HOSTILE) >= 5
    assert page.complaints() == []


def test_a_mark_leads_to_its_passage(page):
    ask(page, "Where does Ada live?")
    finished(page)
    page.driver.find_element(By.CSS_SELECTOR, ".mark").click()
    until(page, "document.activeElement.matches('.passage.is-cited')")
    assert page.run("return document.querySelector('.passages').open") is True
    assert text(page, ".passage:focus .number") == "1."


def test_a_conversation_sends_what_was_said_and_can_begin_anew(page, generator):
    ask(page, "Where does Ada live?")
    finished(page)
    ask(page, "And since when?")
    finished(page, 2)
    sent = [json.dumps(body, ensure_ascii=False) for body in generator.bodies[-2:]]
    assert any("Where does Ada live?" in body and "And since when?" in body for body in sent)
    page.driver.find_element(By.ID, "new").click()
    assert page.run("return document.querySelectorAll('.turn').length") == 0
    before = len(generator.bodies)
    ask(page, "Who keeps cats?")
    finished(page)
    assert len(generator.bodies) == before + 1


def test_stop_ends_an_answer(page, generator):
    generator.delay = 5.0
    try:
        ask(page, "Where does Ada live?")
        until(page, "!document.getElementById('stop').hidden")
        page.driver.find_element(By.ID, "stop").click()
        finished(page)
    finally:
        generator.delay = 0.0
    assert text(page, ".note") == "Stopped."
    assert page.run("return document.getElementById('send').hidden") is False


def test_what_is_not_in_the_documents_is_said(browser, serving, hostile_index, generator):
    nothing = {"where": "source = 'nowhere'", "generator_model": "stub"}
    with serving(hostile_index, generator_url=generator.url, **nothing) as url:
        open_page(browser, url)
        ask(browser, "Where does Ada live?")
        finished(browser)
        assert "not in the documents" in text(browser, ".turn").lower()
        assert browser.run("return document.querySelector('.passages').hidden") is True


def test_a_key_is_asked_for_and_kept_for_the_tab(
    browser,
    serving,
    hostile_index,
    generator,
    monkeypatch,
):
    monkeypatch.setenv("DALM_API_KEY", "the-key")
    with serving(hostile_index, generator_url=generator.url, generator_model="stub") as url:
        open_page(browser, url)
        for key, right in [("wrong", False), ("the-key", True)]:
            until(browser, "!document.getElementById('key-form').hidden")
            browser.driver.find_element(By.ID, "key").send_keys(key + "\n")
            if right:
                until(browser, "document.getElementById('key-form').hidden")
            else:
                until(browser, "document.getElementById('key-note').textContent.includes('wrong')")
        ask(browser, "Where does Ada live?")
        finished(browser)
        assert "Ada lives in Ulm" in text(browser, ".answer")


def test_it_is_dark_where_the_reader_is(page, address):
    colours = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        open_page(page, address)
        colours.append(page.run("return getComputedStyle(document.body).backgroundColor"))
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 24, 28)"]


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(page, width):
    page.size(width, 700, mobile=True)
    ask(page, "Where does Ada live? " + "long" * 40)
    finished(page)
    page.run("document.querySelector('.passages').open = true")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.run(wide) == 0


def test_the_policy_lets_in_the_pages_own_files_alone(http):
    answer = http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://|<script(?! type=\"module\" src=\"/)| on\w+=", answer.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
        assert http.get(path).status_code == 200
    assert http.get("/page/../page_routes.py").status_code == 404
