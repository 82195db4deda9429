import logging

import pytest

from dalm.errors import UserError
from dalm.llm.language_model import Reply
from dalm.llm.response_cache import Journal, ask_once
from tests.llm.requests import Asked, asked


class Model:
    """Answers but for what it was told to refuse, and keeps what it was asked."""

    def __init__(self, *refused: str) -> None:
        self.refused, self.asked = refused, []

    def ask(self, requests, answered, failed) -> None:
        for request in requests:
            self.asked.append(request.text)
            if request.text in self.refused:
                failed(request, "too long")
            else:
                answered(request, Reply(request.text.upper(), 1, 2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def test_what_the_journal_holds_is_not_asked_again(path, caplog):
    caplog.set_level(logging.INFO, "dalm")
    model = Model()
    with Journal(path) as journal:
        ask_once(asked(2), journal, model.ask, "m")
    with Journal(path) as journal:
        found = ask_once(asked(4)[::-1], journal, model.ask, "m")
    assert [(r.text, reply.text) for r, reply in found] == [
        (f"question {n}", f"QUESTION {n}") for n in (3, 2, 1, 0)
    ]
    assert model.asked == ["question 0", "question 1", "question 3", "question 2"]
    assert "2 requests were answered before" in caplog.text


def test_equal_requests_are_one(path):
    model = Model()
    with Journal(path) as journal:
        found = ask_once([Asked("a"), Asked("b"), Asked("a")], journal, model.ask, "m")
    assert model.asked == ["a", "b"]
    assert [reply.text for _, reply in found] == ["A", "B", "A"]


def test_what_has_no_answer_is_told_and_asked_again(path, caplog):
    with Journal(path) as journal:
        found = ask_once(asked(3), journal, Model("question 1").ask, "m")
    assert [request.text for request, _ in found] == ["question 0", "question 2"]
    assert "1 of 3 requests have no answer (most often: too long)" in caplog.text
    again = Model()
    with Journal(path) as journal:
        assert len(ask_once(asked(3), journal, again.ask, "m")) == 3
    assert again.asked == ["question 1"]


def test_nothing_answered_is_a_mistake_to_mend(path):
    with Journal(path) as journal, pytest.raises(UserError, match="no request was answered; most"):
        ask_once([Asked("a")], journal, Model("a").ask, "m")
