"""Judgments on the page: kept by the server, shown again, taken back, and hidden where none are."""

import shutil

import pytest
from selenium.webdriver.common.keys import Keys

from dalm.user_feedback.feedback_store import FeedbackStore


@pytest.fixture(scope="module")
def judged_index(page_index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged") / "index"
    shutil.copytree(page_index, folder)
    return folder


@pytest.fixture(scope="module")
def judged_address(cited, judged_index):
    with cited(judged_index, feedback=True) as url:
        yield url


@pytest.fixture
def judging(reader, judged_address, generator):
    reader.open(judged_address)
    reader.ask("Where does Ada live?")
    return reader


def kept(index, answer_id):
    """The judgments of an answer that count: kind and thing → value."""
    with FeedbackStore.open(index) as store:
        judgments = store.judgments()
    newest = {each.thing: each for each in judgments if each.answer_id == answer_id}
    return {
        (each.kind, each.thing[2]): each.text or each.passage_id if each.kind in
        ("correction", "right_passage") else each.value
        for each in newest.values() if not each.taken_back
    }  # fmt: skip


def answer_id(page):
    return page.run("return document.querySelector('.judge').dataset.answer")


def pressed(page, label):
    script = "return [...document.querySelectorAll('.judge')].filter(e =>" \
             "(e.ariaLabel ?? e.textContent) === arguments[0]).map(e => e.ariaPressed)"  # fmt: skip
    return page.run(script, label)


def press(page, label, becomes, within="body"):
    page.press(label, within)
    page.until(
        "[...document.querySelectorAll('.judge')].filter(e => (e.ariaLabel ?? e.textContent) ==="
        "arguments[0]).every(e => !e.disabled && e.ariaPressed === arguments[1])",
        *(label, becomes),
    )


def test_an_answer_is_judged_and_the_judgment_taken_back(judging, judged_index):
    press(judging, "Good answer", "true")
    assert kept(judged_index, answer_id(judging)) == {("answer", ""): 1}
    press(judging, "Bad answer", "true")
    assert pressed(judging, "Good answer") == ["false"]
    assert kept(judged_index, answer_id(judging)) == {("answer", ""): -1}
    press(judging, "Bad answer", "false")
    assert kept(judged_index, answer_id(judging)) == {}


def test_each_passage_is_judged_in_the_list_and_in_the_pane_alike(judging, judged_index):
    passage = judging.run("return document.querySelector('button.passage').dataset.id")
    press(judging, "Not helpful: passage 1", "true")
    judging.click(".chip")
    assert pressed(judging, "Not helpful: passage 1") == ["true", "true"]
    assert kept(judged_index, answer_id(judging)) == {("passage", passage): -1}
    press(judging, "Helpful: passage 1", "true", "#pane")
    assert pressed(judging, "Not helpful: passage 1") == ["false", "false"]
    assert kept(judged_index, answer_id(judging)) == {("passage", passage): 1}
    press(judging, "This is the right passage", "true")
    assert kept(judged_index, answer_id(judging))["right_passage", ""] == passage
    judging.type(Keys.ARROW_RIGHT)
    press(judging, "This is the right passage", "true")  # another takes its place
    other = kept(judged_index, answer_id(judging))["right_passage", ""]
    assert other != passage
    judging.type(Keys.ARROW_LEFT)
    assert pressed(judging, "This is the right passage") == ["false"]
    judging.type(Keys.ARROW_RIGHT)
    press(judging, "This is the right passage", "false")
    assert kept(judged_index, answer_id(judging)) == {("passage", passage): 1}


def test_a_corrected_answer_is_kept_and_taken_back(judging, judged_index):
    judging.press("Correct")
    assert judging.focused(".correction textarea")
    assert "Ada lives in Ulm" in judging.run("return document.activeElement.value")
    judging.run("document.activeElement.value = ''")
    judging.type("In Ulm, by the river.")
    judging.press("Keep this answer")
    judging.until("document.querySelector('.correction [role=status]').textContent === 'Kept.'")
    assert kept(judged_index, answer_id(judging)) == {("correction", ""): "In Ulm, by the river."}
    judging.press("Take it back")
    judging.until(
        "document.querySelector('.correction [role=status]').textContent === 'Taken back.'"
    )
    assert kept(judged_index, answer_id(judging)) == {}


def test_judgments_are_shown_again_with_the_history(judging, judged_address):
    press(judging, "Good answer", "true")
    judging.go(judged_address)
    judging.click("#history")
    judging.click(".conversation")
    assert pressed(judging, "Good answer") == ["true"]


def test_people_have_a_random_id_or_the_name_that_they_give(judging, judged_index):
    press(judging, "Good answer", "true")
    id_ = judging.run("return JSON.parse(localStorage.getItem('dalm-person')).id")
    assert len(id_) == 16
    judging.click("#help")
    judging.find("#name").send_keys("Hilde" + Keys.ENTER)
    judging.type(Keys.ESCAPE)
    press(judging, "Helpful: passage 1", "true")
    with FeedbackStore.open(judged_index) as store:
        people = [each.person for each in store.judgments() if each.answer_id == answer_id(judging)]
    assert people == [id_, "Hilde"]


def test_a_link_shows_the_answer_as_it_was_given(judging, judged_address, generator):
    asked = len(generator.bodies)
    link = f"{judged_address}/?answer={answer_id(judging)}"
    judging.run("navigator.clipboard.writeText = async text => { window.copied = text; }")
    judging.press("Copy a link to this")
    assert judging.until("window.copied") == link
    judging.go(link)
    judging.until("document.querySelector('.kept')")
    assert judging.text(".question") == "Where does Ada live?"
    assert judging.texts(".chip") == ["1", "1"]
    assert len(generator.bodies) == asked


def test_a_judgment_that_cannot_be_kept_is_said(judging, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FeedbackStore, "judge", full)
    judging.press("Good answer")
    judging.until("document.querySelector('.not-kept')")
    assert judging.text(".not-kept").startswith("Not kept:")
    assert pressed(judging, "Good answer") == ["false"]


def test_without_feedback_there_is_nothing_to_judge(page):
    page.ask("Where does Ada live?")
    page.click(".chip")
    assert not page.shown(".judge")
    page.click("#help")
    assert not page.shown("#name")
