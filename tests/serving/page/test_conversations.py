"""Conversations stay whole: another one is shown, the server changes, another tab goes on."""

import json

from selenium.webdriver.common.keys import Keys

from tests.llm.stub_server import Sent


def begin(page, generator, question, delay=4.0):
    generator.delay = delay
    page.find("#question").send_keys(question + Keys.ENTER)
    page.until("!document.getElementById('stop').hidden")


def ended(page):
    page.until("document.getElementById('stop').hidden")


def kept(page):
    """The questions of each conversation of the history, newest first."""
    script = "return JSON.parse(localStorage.getItem('dalm-history')).conversations"
    conversations = page.run(script)
    return [[each["question"] for each in one["records"]] for one in conversations]


def test_a_new_conversation_begins_without_what_is_still_being_answered(page, generator):
    begin(page, generator, "Where does Ada live?")
    page.click("#new")
    ended(page)
    generator.delay = 0.0
    page.ask("Who keeps cats?")
    assert page.texts(".question") == ["Who keeps cats?"]
    assert kept(page) == [["Who keeps cats?"], ["Where does Ada live?"]]


def test_an_older_conversation_is_shown_without_what_is_still_being_answered(page, generator):
    page.ask("Where does Ada live?")
    page.click("#new")
    begin(page, generator, "Who keeps cats?")
    page.click("#history")
    page.click(".conversation")
    ended(page)
    generator.delay = 0.0
    page.until("JSON.parse(localStorage.getItem('dalm-history')).conversations.length === 2")
    page.ask("And Bela?", 2)
    assert kept(page) == [["Where does Ada live?", "And Bela?"], ["Who keeps cats?"]]


def test_what_is_asked_again_stays_at_its_place(page, generator):
    begin(page, generator, "Where does Ada live?")
    page.click("#stop")
    ended(page)
    generator.delay = 0.0
    page.ask("Who keeps cats?", 2)
    page.press("Ask again")
    page.until("document.querySelectorAll('.answer[aria-busy=false]:not([hidden])').length === 2")
    page.finished(2)
    assert page.texts(".question") == ["Where does Ada live?", "Who keeps cats?"]
    assert kept(page) == [["Where does Ada live?", "Who keeps cats?"]]
    assert "Who keeps cats?" not in json.dumps(generator.bodies[-1]["messages"])


def test_two_tabs_that_go_on_with_one_conversation_lose_nothing(page, address):
    page.ask("Where does Ada live?")
    page.driver.switch_to.new_window("tab")
    page.go(address)
    page.click("#history")
    page.click(".conversation")
    page.ask("And Bela?", 2)
    page.driver.close()
    page.driver.switch_to.window(page.driver.window_handles[0])
    page.ask("And Cyrus?", 2)
    first = "Where does Ada live?"
    assert kept(page) == [[first, "And Cyrus?"], [first, "And Bela?"]]


def test_forgetting_one_conversation_forgets_none_that_came_in_meanwhile(page, generator):
    page.ask("Where does Ada live?")
    page.click("#new")
    begin(page, generator, "Who keeps cats?", 1.0)
    page.click("#history")
    ended(page)
    page.press("Forget: Where does Ada live?")
    assert kept(page) == [["Who keeps cats?"]]


def test_the_generation_that_answers_is_told(page):
    page.run("import('/page/served.js').then(served => served.tellGeneration(7))")
    page.until("document.getElementById('generation').textContent.endsWith(7)")
    page.ask("Where does Ada live?")
    assert page.text("#generation") == "index generation 1"


def test_a_server_with_another_generator_is_asked_without_reloading(page):
    page.run("import('/page/state.js').then(({page}) => { page.model = window.model = 'gone'; })")
    page.until("window.model")
    page.ask("Where does Ada live?")
    assert page.texts(".chip") == ["1", "1"]


def test_an_answer_that_was_cut_off_is_said_to_be(page, generator):
    chunk = {"choices": [{"delta": {"content": "Ada lives in [1"}, "finish_reason": "length"}]}
    stream = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    generator.plan.append(Sent(stream, headers={"Content-Type": "text/event-stream"}))
    page.ask("Where does Ada live?")
    assert page.text(".answer") == "Ada lives in"
    assert page.text(".note").startswith("The answer is cut off")
    assert page.text("#status").startswith("The answer is cut off.")


def test_a_link_to_an_answer_of_another_server_says_what_to_do(page, address):
    page.go(f"{address}/?answer=chatcmpl-none")
    page.until("document.querySelector('#trouble .problem')")
    assert "doesn't keep the answer that the link names" in page.text("#trouble")
    page.ask("Where does Ada live?")
    assert page.text("#trouble") == ""
