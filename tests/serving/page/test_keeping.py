"""History, copies and links, details: what a reader keeps of an answer."""

from tests.serving.page.conftest import HOSTILE

CLIPBOARD = "navigator.clipboard.writeText = async text => { window.copied = text; }"


def test_the_history_shows_a_conversation_again_without_asking(page, address, generator):
    page.ask("Where does Ada live?")
    page.ask("And Bela?", 2)
    asked = len(generator.bodies)
    page.go(address)
    page.click("#history")
    assert page.texts(".conversation .title") == ["Where does Ada live?"]
    assert "2 questions" in page.text(".conversation .quiet")
    page.click(".conversation")
    assert page.texts(".question") == ["Where does Ada live?", "And Bela?"]
    assert page.texts(".turn:first-child .chip") == ["1", "1"]
    assert len(generator.bodies) == asked
    page.ask("And Cyrus?", 3)
    sent = str(generator.bodies[-2:])
    assert "And Bela?" in sent  # the conversation goes on


def test_the_history_can_be_cleared_and_switched_off(page, address):
    page.ask("Where does Ada live?")
    page.click("#history")
    page.press("Clear the history")
    assert page.texts(".conversation") == []
    page.click("#pane .choice input")
    page.click("#pane-close")
    page.click("#new")
    page.ask("Who keeps cats?")
    page.go(address)
    page.click("#history")
    assert page.texts(".conversation") == []
    assert page.run("return document.querySelector('#pane .choice input').checked") is False


def test_an_answer_is_copied_with_its_sources(page):
    page.ask("Where does Ada live?")
    page.run(CLIPBOARD)
    title, place = page.text("button.passage .title"), page.text("button.passage .place")
    page.press("Copy with sources, as plain text")
    copied = page.until("window.copied")
    assert copied.startswith("Where does Ada live?\n\nAda lives in Ulm [1], as")
    assert "9" not in copied.partition("Sources:")[0]
    assert f"\n\nSources:\n\n[1] {title}" in copied
    assert place.split(" · ")[0] in copied
    assert "[2]" not in copied
    page.press("Copy with sources, as Markdown")
    markdown = page.until("window.copied !== arguments[0] && window.copied", copied)
    assert markdown.startswith("**Where does Ada live?**")
    if HOSTILE in title:
        assert r"\<script\>" in markdown.partition("Sources:")[2]
    page.press("Copy a link to this")
    link = page.until("window.copied.startsWith('http') && window.copied")
    assert link.endswith("/?q=Where+does+Ada+live%3F")


def test_everything_that_an_answer_depended_on_is_told(page, generator):
    page.ask("Where does Ada live?")
    page.press("Details")
    page.until("document.querySelector('.prompt')")
    assert page.text(".prompt") == generator.bodies[-1]["messages"][-1]["content"]
    facts = dict(zip(page.texts(".facts dt"), page.texts(".facts dd"), strict=True))
    assert facts["Index generation"] == "1"
    assert facts["Question, as searched"] == "Where does Ada live?"
    assert facts["Generator"] == "stub"
    assert facts["Search"] == "hybrid"
