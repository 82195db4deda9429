import logging

import pytest

from dalm.errors import UserError
from dalm.llm.language_model import ModelError, Reply
from dalm.llm.response_cache import Journal, cached_replies
from tests.llm.requests import Asked, asked


class Model:
    """Replies unless it is to refuse, and keeps what it was asked."""

    name = "m"

    def __init__(self, *refused: str, most: int = 2) -> None:
        self.refused, self.asked, self.parameters = refused, [], {"max_tokens": most}

    def generate(self, requests, on_reply, on_failure) -> None:
        for request in requests:
            self.asked.append(request.text)
            if request.text in self.refused:
                on_failure(request, ModelError("too long"))
            else:
                on_reply(request, Reply(request.text.upper(), 1, 2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def test_what_the_journal_holds_is_not_asked_again(path, caplog):
    caplog.set_level(logging.INFO, "dalm")
    model = Model()
    with Journal(path) as journal:
        cached_replies(model, asked(2), journal, "again")
    with Journal(path) as journal:
        found = cached_replies(model, asked(4)[::-1], journal, "again")
    assert [(r.text, reply.text) for r, reply in found] == [
        (f"question {n}", f"QUESTION {n}") for n in (3, 2, 1, 0)
    ]
    assert model.asked == ["question 0", "question 1", "question 3", "question 2"]
    assert "2 of 4 replies are cached" in caplog.text


def test_equal_requests_are_one(path):
    model = Model()
    with Journal(path) as journal:
        found = cached_replies(model, [Asked("a"), Asked("b"), Asked("a")], journal, "again")
    assert model.asked == ["a", "b"]
    assert [reply.text for _, reply in found] == ["A", "B", "A"]


def test_what_has_no_answer_is_told_and_asked_again(path, caplog):
    with Journal(path) as journal:
        found = cached_replies(Model("question 1"), asked(3), journal, "again")
    assert [request.text for request, _ in found] == ["question 0", "question 2"]
    assert (
        "1 of 3 requests got no reply (most often: too long); again sends these again"
        in caplog.text
    )
    again = Model()
    with Journal(path) as journal:
        assert len(cached_replies(again, asked(3), journal, "again")) == 3
    assert again.asked == ["question 1"]


def test_nothing_answered_is_a_mistake_to_mend(path):
    with Journal(path) as journal, pytest.raises(UserError, match="no request got a reply; most"):
        cached_replies(Model("a"), [Asked("a")], journal, "again")
    with Journal(path) as journal:
        assert cached_replies(Model("a"), [Asked("a")], journal, "again", all_may_fail=True) == []


class Cut(Model):
    """Cuts every reply off, at the length that is asked for."""

    length_option = "--max-new-tokens"

    def generate(self, requests, on_reply, on_failure) -> None:
        for request in requests:
            self.asked.append(request.text)
            on_reply(request, Reply("half", 1, 2, 0.0, "length"))


class Free(Asked):
    response_format = None


def test_a_cut_reply_is_used_told_of_and_asked_again(path, caplog):
    with Journal(path) as journal:
        cached_replies(Model(), [Asked("a")], journal, "again")
        found = cached_replies(Cut(), [Asked("a"), Asked("b")], journal, "again")
    assert [reply.text for _, reply in found] == ["A", "half"]
    assert (
        "1 of 2 replies were cut off: raise --max-new-tokens, or the server's own limit; what is "
        "whole in them is used, and again asks for them again" in caplog.text
    )
    model = Model()
    for _ in range(2):
        with Journal(path) as journal:
            found = cached_replies(model, [Asked("a"), Asked("b")], journal, "again")
        assert [reply.text for _, reply in found] == ["A", "B"]
    assert model.asked == ["b"], "the whole reply counts, not the first"


def test_a_free_text_ends_at_the_length_that_was_asked_for(path, caplog):
    model = Cut()
    for _ in range(2):
        with Journal(path) as journal:
            [(_, reply)] = cached_replies(model, [Free("a")], journal, "again")
    assert (reply.text, model.asked) == ("half", ["a"])
    assert "1 of 1 replies were cut off: raise --max-new-tokens" in caplog.text


def test_a_free_text_that_was_cut_is_asked_again_with_more_tokens_alone(path):
    with Journal(path) as journal:
        cached_replies(Cut(), [Free("a")], journal, "again")
        cached_replies(Model(), [Free("b")], journal, "again")
    model = Model(most=3)
    for _ in range(2):
        with Journal(path) as journal:
            found = cached_replies(model, [Free("a"), Free("b")], journal, "again")
    assert [reply.text for _, reply in found] == ["A", "B"]
    assert model.asked == ["a"]


@pytest.mark.parametrize("text", ["", " \n", "<think>and never an end", "so it is</think>"])
def test_a_journal_that_holds_replies_without_an_answer(path, text):
    with Journal(path) as journal:
        journal.add(Asked("a"), Reply(text), "m")
    model = Model()
    for _ in range(2):
        with Journal(path) as journal:
            assert cached_replies(model, [Asked("a")], journal, "again")[0][1].text == "A"
    assert model.asked == ["a"]
