"""The page asks, streams, stops, keeps a conversation, and says plainly what went wrong."""

import json
import re

from selenium.webdriver.common.keys import Keys

from tests.llm.stub_server import Sent
from tests.serving.conftest import build_index
from tests.serving.page.conftest import HOSTILE
from tests.serving.test_page_facts import TEXT, TOPICS


def test_it_answers_with_the_passages_and_loads_nothing_else(page, address):
    page.until("document.getElementById('model').textContent === 'stub'")
    page.ask("Where does Ada live?")
    assert page.text(".question") == "Where does Ada live?"
    assert re.sub(r"\s+", " ", page.text(".answer")).startswith("Ada lives in Ulm")
    assert page.text("#generation") == "index generation 1"
    assert {url.split("/")[2] for url in page.browser.requests()} == {address.split("/")[2]}
    assert page.browser.complaints() == []


def test_texts_never_become_markup(page):
    page.ask(f"What is {HOSTILE}?")
    page.run("document.querySelector('.passages details')?.toggleAttribute('open', true)")
    page.click(".chip")
    count = "document.querySelectorAll('main img, main script, aside img, aside script').length"
    assert page.run(f"return {count}") == 0
    assert HOSTILE in page.text(".question")
    assert HOSTILE in page.text(".answer")
    shown = page.run("return document.body.textContent")
    assert shown.count(HOSTILE) >= 8
    assert page.browser.complaints() == []


def test_an_answer_has_lists_tables_and_code_and_citations_outside_of_code_alone(page, generator):
    generator.write = lambda _: (
        "Two ways [1]:\n\n1. one `x[1]`\n   - inner [2]\n2. **two [3]**\n\n"
        "```python\na = b[1]\n```\n\n"
        "| key | value |\n|---|---|\n| a | b [7] |"
    )
    page.ask("How?")
    assert page.texts(".answer .chip") == ["1", "2", "3"]
    assert page.texts(".answer pre") == ["a = b[1]"]
    assert page.texts(".answer ol > li > code") == ["x[1]"]
    assert page.texts(".answer td") == ["a", "b"]
    assert page.texts(".answer th") == ["key", "value"]
    assert page.texts(".answer li.deeper")[0].startswith("inner")


def test_a_conversation_sends_what_was_said_and_can_begin_anew(page, generator):
    page.ask("Where does Ada live?")
    page.ask("And since when?", 2)
    sent = [json.dumps(body, ensure_ascii=False) for body in generator.bodies[-2:]]
    assert any("Where does Ada live?" in body and "And since when?" in body for body in sent)
    assert page.shown("#new")
    page.click("#new")
    assert page.run("return document.querySelectorAll('.turn').length") == 0
    before = len(generator.bodies)
    page.ask("Who keeps cats?")
    assert len(generator.bodies) == before + 1


def test_stop_ends_an_answer_and_it_can_be_asked_again(page, generator):
    generator.delay = 5.0
    page.find("#question").send_keys("Where does Ada live?" + Keys.ENTER)
    page.until("!document.getElementById('stop').hidden")
    page.click("#stop")
    page.finished()
    generator.delay = 0.0
    assert page.text(".note p") == "Stopped."
    assert page.shown("#send")
    page.press("Ask again")
    page.until("document.querySelector('.answer[aria-busy=false]:not([hidden])')")
    page.finished()
    assert "Ada lives in Ulm" in page.text(".answer")
    assert page.run("return document.querySelectorAll('.turn').length") == 1


def test_examples_of_the_corpus_are_asked_with_one_click(
    reader, cited, tiny_models, tmp_path, generator
):
    rows = [{"Passage": TEXT.format(topic, 3), "source": f"{topic}.pdf"} for topic in TOPICS]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with cited(build_index(tmp_path / "index", table, tiny_models.encoder), search="text") as url:
        reader.open(url)  # the server may still be choosing
        reader.until("document.querySelectorAll('#examples button').length")
        examples = reader.texts("#examples button")
        assert len(examples) <= 3
        assert any(topic in examples[0] for topic in TOPICS)
        reader.click("#examples button")
        reader.finished()
        assert reader.text(".question") == examples[0]


def test_a_failing_generator_is_told_with_a_way_to_try_again(page, generator):
    busy = Sent({"error": {"message": "out of memory"}}, 500)
    generator.plan.extend([busy] * 9)
    page.ask("Where does Ada live?")
    assert "out of memory" in page.text(".problem")
    generator.plan.clear()
    page.press("Try again")
    page.until("document.querySelector('.chip')")
    assert not page.shown(".problem")


def test_a_full_server_is_busy(reader, cited, page_index, generator):
    with cited(page_index, max_concurrent=1, max_waiting=0) as url:
        reader.open(url)
        generator.delay = 1.5
        body = {"model": "stub", "messages": [{"role": "user", "content": "first"}]}
        reader.run(
            "window.first = fetch('/v1/chat/completions', {method: 'POST', headers:"
            "{'Content-Type': 'application/json'}, body: arguments[0]}).then(() => 1)",
            json.dumps(body),
        )
        reader.until("fetch('/ready').then(r => r.ok)")
        WAIT = "document.querySelector('.problem') || document.querySelector('.chip')"
        reader.find("#question").send_keys("second" + Keys.ENTER)
        reader.until(WAIT)
        assert reader.text(".problem").startswith("The server is busy.")
        assert "Try again in" in reader.text(".problem")


def test_an_answer_that_takes_too_long_is_told(reader, cited, page_index, generator):
    with cited(page_index, request_timeout=0.4) as url:
        reader.open(url)
        generator.delay = 1.0
        reader.ask("Where does Ada live?")
        assert reader.text(".problem").startswith("No answer in time.")


def test_a_lost_server_is_told(reader, cited, page_index, generator):
    with cited(page_index) as url:
        reader.open(url)
    reader.ask("Where does Ada live?")
    assert reader.text(".problem").startswith("The server can't be reached.")
    assert reader.text(".problem button") == "Try again"


def test_what_is_not_in_the_documents_is_said(reader, cited, page_index):
    with cited(page_index, where="source = 'nowhere'") as url:
        reader.open(url)
        reader.ask("Where does Ada live?")
        assert reader.text(".absent").startswith("Not in the documents.")
        assert not reader.shown(".answer")
        assert reader.run("return document.querySelectorAll('button.passage').length") == 0


def test_a_key_is_asked_for_and_kept_for_the_tab(reader, cited, page_index, generator, monkeypatch):
    monkeypatch.setenv("DALM_API_KEY", "the-key")
    with cited(page_index) as url:
        reader.open(url, ready=False)
        for key, right in [("wrong", False), ("the-key", True)]:
            reader.until("!document.getElementById('key-form').hidden")
            reader.find("#key").send_keys(key + Keys.ENTER)
            if right:
                reader.until("document.getElementById('key-form').hidden")
            else:
                reader.until("document.getElementById('key-note').textContent.includes('wrong')")
        reader.ask("Where does Ada live?")
        assert "Ada lives in Ulm" in reader.text(".answer")


def test_a_question_in_the_address_is_asked(reader, address, generator):
    reader.open(address, "/?q=Where+does+Ada+live%3F")
    reader.finished()
    assert reader.text(".question") == "Where does Ada live?"
    assert reader.run("return location.search") == ""
