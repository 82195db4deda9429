"""What the browser keeps may be damaged, full or not there: the page works, and says what is so."""

import pytest

from dalm.user_feedback.feedback_store import FeedbackStore
from tests.serving.page.test_feedback_on_page import (  # noqa: F401
    answer_id,
    judged_address,
    judged_index,
    judging,
    kept,
    press,
)

FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }"


@pytest.mark.parametrize("value", ["{}", "[]", "5", '"x"', "{", '{"conversations": [{"id": "a"}]}'])
def test_a_damaged_history_is_no_obstacle(page, address, value):
    page.run("localStorage.setItem('dalm-history', arguments[0])", value)
    page.go(address)
    page.click("#history")
    assert "Nothing is kept yet." in page.text("#pane")
    page.ask("Where does Ada live?")
    page.click("#history")
    assert page.texts(".conversation .title") == ["Where does Ada live?"]
    assert page.browser.complaints() == []


@pytest.mark.parametrize("value", ['"x"', "5", "[]", '{"id": 7}'])
def test_a_damaged_person_judges_under_a_new_id(judging, judged_index, value):  # noqa: F811
    judging.run("localStorage.setItem('dalm-person', arguments[0])", value)
    press(judging, "Good answer", "true")
    assert kept(judged_index, answer_id(judging)) == {("answer", ""): 1}


def test_without_storage_a_judgment_is_taken_back_by_who_made_it(judging, judged_index):  # noqa: F811
    judging.run(f"localStorage.clear(); {FULL}")
    press(judging, "Good answer", "true")
    press(judging, "Good answer", "false")
    with FeedbackStore.open(judged_index) as store:
        people = [each.person for each in store.judgments(answer_id(judging))]
    assert len(people) == 2
    assert len(set(people)) == 1
    judging.click("#help")
    judging.find("#name").send_keys("Hilde")
    judging.press("Keep", "#pane")
    assert judging.text("#pane [role=status]").startswith("Not kept")


def test_a_judgment_is_taken_back_under_the_name_it_was_given_under(judging, judged_index):  # noqa: F811
    press(judging, "Good answer", "true")
    judging.click("#help")
    judging.find("#name").send_keys("Hilde")
    judging.press("Keep", "#pane")
    press(judging, "Good answer", "false")
    with FeedbackStore.open(judged_index) as store:
        people = {each.person for each in store.judgments(answer_id(judging))}
    assert len(people) == 1
    assert "Hilde" not in people
    press(judging, "Good answer", "true")
    with FeedbackStore.open(judged_index) as store:
        assert store.judgments(answer_id(judging))[-1].person == "Hilde"


def test_an_answer_that_was_broken_off_is_not_shown_as_whole(judging, judged_index, judged_address):  # noqa: F811
    name = answer_id(judging)
    with FeedbackStore.open(judged_index) as store:
        store._connection.execute("UPDATE answers SET stopped = 1 WHERE id = ?", (name,))
    judging.go(f"{judged_address}/?answer={name}")
    judging.until("document.querySelector('.kept')")
    assert judging.text(".note p") == "Stopped."
    assert not judging.shown(".judge")


def test_why_a_judgment_is_not_kept_is_said(judging, judged_index, monkeypatch):  # noqa: F811
    from dalm.errors import UserError

    def full(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(FeedbackStore, "judge", full)
    judging.press("Good answer")
    told = judging.until("document.querySelector('.not-kept')?.textContent")
    assert told == "Not kept: the judgment can't be kept now; the server's log says why"
    monkeypatch.undo()
    with FeedbackStore.open(judged_index) as store:
        store.forget_question("Where does Ada live?")
    judging.press("Good answer")
    judging.until("document.querySelector('.not-kept').textContent.includes('Ask again')")


def test_a_browser_that_keeps_no_session_asks_all_the_same(page, address):
    source = (
        "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no'); }})"
    )
    script = page.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": source}
    )
    try:
        page.go(address)
        page.ask("Where does Ada live?")
        assert page.texts(".chip") == ["1", "1"]
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
