"""Two systems side by side: blind until the vote, then told and kept."""

import shutil

import pytest

from dalm.user_feedback.feedback_store import FeedbackStore
from tests.serving.page.conftest import ANSWER


@pytest.fixture(scope="module")
def compared_index(page_index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "index"
    shutil.copytree(page_index, folder)
    return folder


@pytest.fixture(scope="module")
def compared_address(cited, compared_index, tiny_models):
    other = {"compare_generator_name_or_path": str(tiny_models.generator)}
    with cited(compared_index, feedback=True, **other) as url:
        yield url


@pytest.fixture
def comparing(reader, compared_address, generator):
    reader.open(compared_address)
    reader.run("document.querySelector('[name=view][value=compare]').click()")
    reader.ask("Where does Ada live?")
    return reader


def test_two_answers_stand_side_by_side_and_nothing_tells_which_is_which(comparing):
    assert comparing.texts(".side > h3") == ["A", "B"]
    texts = comparing.texts(".side .answer")
    assert sum(text.startswith("Ada lives in Ulm") for text in texts) == 1
    boxes = comparing.run(
        "return [...document.querySelectorAll('.side')].map(e => e.getBoundingClientRect().left)"
    )
    assert boxes[0] < boxes[1]
    shown = comparing.run("return document.querySelector('.comparison').outerHTML.toLowerCase()")
    assert not any(word in shown for word in ("tuned", "stub", "base"))
    comparing.run("document.querySelector('.side .chip').click()")
    assert comparing.shown("#pane")
    assert not comparing.shown(".judge")


def test_a_vote_tells_which_is_which_and_is_kept(comparing, compared_index, compared_address):
    tuned = "ab"[comparing.texts(".side .answer")[0].startswith("Ada lives") is False]
    comparing.press(f"{tuned.upper()} is better")
    comparing.until("document.querySelector('.outcome')")
    assert comparing.text(".outcome").startswith(
        f"{tuned.upper()} is the tuned system. You preferred the tuned system."
    )
    assert "tuned 1, base 0, tie 0, neither 0" in comparing.text(".outcome")
    told = {"a": ["A · tuned", "B · base"], "b": ["A · base", "B · tuned"]}[tuned]
    assert comparing.texts(".side > h3") == told
    with FeedbackStore.open(compared_index) as store:
        judgment = store.judgments()[-1]
        record = store.comparison(judgment.answer_id)
    assert (judgment.kind, judgment.value, record.tuned) == ("comparison", tuned, tuned)
    own = record.a if tuned == "a" else record.b
    assert own["answer"] == ANSWER.replace("[1, 9]", "[1]")
    comparing.go(compared_address)
    comparing.click("#history")
    comparing.click(".conversation")
    assert comparing.texts(".side > h3") == told
    assert comparing.run("return [...document.querySelectorAll('.voting button')]"
                         ".every(button => button.disabled)")  # fmt: skip


def test_where_nothing_is_compared_it_is_not_offered(page):
    assert not page.shown("#compare-view")
