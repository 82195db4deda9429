import asyncio

import pytest

from dalm.llm.chat_completions import (
    BusyError,
    RefusedError,
    ServerError,
    StatusError,
    TimedOutError,
    UnavailableError,
)
from tests.llm.requests import asked, client


class Run:
    """Replies and failures of a number of requests."""

    def __init__(self, stub, number=4, concurrency=4, key=None, served=False, **patience) -> None:
        self.asked = asked(number)
        self.replies, self.failures = {}, {}
        model = client(stub, concurrency, key, served, **patience)
        model.generate(self.asked, self.on_reply, self.on_failure)

    def on_reply(self, request, reply) -> None:
        assert request.key not in self.replies
        self.replies[request.key] = reply

    def on_failure(self, request, error) -> None:
        self.failures[request.key] = str(error)

    def answers(self) -> list[str]:
        return [self.replies[request.key].text for request in self.asked]


ALL = [f"an answer to: question {n}" for n in range(4)]


def test_every_request_is_put_once_with_prompt_parameters_and_schema(stub):
    run = Run(stub)
    assert run.answers() == ALL
    assert len(stub.bodies) == 4
    body = stub.bodies[stub.prompts().index("question 0")]  # they come in any order
    assert body["model"] == "m"
    assert body["max_tokens"] == 200
    assert body["messages"] == [{"role": "user", "content": "question 0"}]
    assert body["response_format"] == run.asked[0].response_format
    [reply] = {(r.tokens_in, r.tokens_out) for r in run.replies.values()}
    assert reply == (300, 50)
    assert "Authorization" not in stub.headers[0]


def test_so_many_are_under_way_at_once(stub):
    stub.delay = 0.05
    Run(stub, number=12, concurrency=3)
    assert stub.most_under_way == 3


@pytest.mark.parametrize("misdeed", ["fail", "half_json", "drop", "vanish"])
def test_what_goes_wrong_once_is_asked_again(stub, misdeed):
    stub.plan.extend([misdeed] * 3)
    run = Run(stub, concurrency=2)
    assert run.answers() == ALL
    assert len(stub.bodies) == 7
    assert not run.failures


def test_a_late_answer_is_asked_for_again(stub):
    stub.plan.append("sleep")
    assert Run(stub, concurrency=1, timeout=0.3).answers() == ALL
    assert len(stub.bodies) == 5


def test_a_server_that_is_always_late(stub):
    stub.plan.extend(["sleep"] * 9)
    with pytest.raises(UnavailableError, match=r"no answer in 0.1 s$") as caught:
        Run(stub, concurrency=1, timeout=0.1, max_retries=0)
    assert isinstance(caught.value.last, TimedOutError)


@pytest.mark.parametrize("misdeed", ["busy", "busy_till"])
def test_a_busy_server_is_asked_again_when_it_said(stub, misdeed):
    stub.plan.append(misdeed)
    run = Run(stub, number=4, concurrency=1, first_wait=0.0)
    assert run.answers() == ALL
    assert len(stub.bodies) == 5
    assert stub.times[1] - stub.times[0] > 0.4  # a date has whole seconds


def test_a_busy_server_is_left_alone_by_all_requests(stub):
    stub.plan.append("busy")
    stub.delay = 0.4
    assert Run(stub, number=4, concurrency=2, first_wait=0.0).answers() == ALL
    assert stub.times[2] - stub.times[0] > 0.9, "the one that was under way is no reason to go on"


def test_a_server_out_of_quota_ends_the_run(stub):
    stub.plan.extend(["", "busy_all_day"])
    with pytest.raises(ServerError, match=r"try again in 1440 minutes .*quota is used up"):
        Run(stub, concurrency=1)


@pytest.mark.parametrize(
    ("misdeed", "missing", "there"),
    [
        ("no_schema", {"response_format"}, set()),
        ("new_name", {"max_tokens"}, {"max_completion_tokens"}),
    ],
)
def test_a_parameter_that_the_server_lacks_is_left_out_from_then_on(stub, misdeed, missing, there):
    stub.plan.extend([misdeed] * 5)
    assert Run(stub, concurrency=1).answers() == ALL
    assert len(stub.bodies) == 5, "one refusal is enough"
    for body in stub.bodies[1:]:
        assert not missing & set(body)
        assert there <= set(body)
        assert {"model", "messages", "seed", "temperature"} <= set(body)


def test_one_refused_request_stops_nobody_else(stub):
    stub.plan.extend(["", "too_long"])
    run = Run(stub, concurrency=1)
    assert len(run.replies) == 3
    assert run.failures == {run.asked[1].key: "400 the context holds 512 tokens"}


def test_a_server_that_refuses_everything_ends_the_run(stub):
    stub.plan.extend(["too_long"] * 100)
    with pytest.raises(UnavailableError, match="3 times in a row, most recently: 400 the context"):
        Run(stub, number=50, concurrency=1)
    assert len(stub.bodies) == 3


def test_a_server_that_dies_ends_the_run_and_keeps_what_was_answered(stub):
    stub.plan.extend([""] * 3 + ["fail"] * 100)
    kept = []
    model = client(stub, 1, max_retries=1, first_wait=0.001)
    with pytest.raises(UnavailableError, match="500 out of memory"):
        model.generate(asked(50), lambda request, reply: kept.append(reply), lambda *_: None)
    assert len(kept) == 3


def test_no_server_at_all():
    with pytest.raises(UnavailableError, match="the connection failed"):
        Run("http://127.0.0.1:9", number=4, concurrency=1, max_retries=1)


@pytest.mark.parametrize(("misdeed", "status"), [("no_key", 401), ("no_model", 404)])
def test_what_no_request_would_change_ends_the_run_at_once(stub, misdeed, status):
    stub.plan.extend([misdeed] * 9)
    with pytest.raises(StatusError) as caught:
        Run(stub, concurrency=1)
    assert caught.value.status == status
    assert len(stub.bodies) == 1


def test_a_notebook_has_a_loop_running_already(stub):
    async def cell() -> Run:
        return Run(stub)

    assert asyncio.run(cell()).answers() == ALL


# Streams

MESSAGES = [{"role": "user", "content": "hello"}]


def test_a_stream_yields_the_pieces_of_the_reply(stub):
    pieces = list(client(stub).stream(MESSAGES))
    assert len(pieces) > 1
    assert "".join(pieces) == "an answer to: hello"
    body = stub.bodies[0]
    assert (body["stream"], body["messages"], body["max_tokens"]) == (True, MESSAGES, 200)
    assert "response_format" not in body


@pytest.mark.parametrize("misdeeds", [["fail"], ["vanish"], ["new_name"], ["busy"]])
def test_a_stream_is_retried_until_it_has_begun(stub, misdeeds):
    stub.plan.extend(misdeeds)
    assert "".join(client(stub).stream(MESSAGES)) == "an answer to: hello"
    assert len(stub.bodies) == 2


def test_a_stream_that_breaks_off_is_no_reply(stub):
    stub.plan.append("break_off")
    pieces = []
    with pytest.raises(BusyError, match="/chat/completions: the stream broke off"):
        pieces.extend(client(stub).stream(MESSAGES))
    assert len(stub.bodies) == 1


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ('{"error": {"message": "out of memory"}}', "chat/completions reports: out of memory"),
        ('{"error": "out of memory"}', "chat/completions reports: out of memory"),
        ('{"choices": [', "sends no stream of chat completions"),
        ("[1, 2]", "sends no stream of chat completions"),
        ('{"choices": [{"delta": 5}]}', "sends no stream of chat completions"),
    ],
)
def test_an_event_that_is_no_piece_of_a_reply_ends_a_stream(stub, event, said):
    endpoint = client(stub).endpoint
    with pytest.raises(RefusedError, match=said):
        list(endpoint.read_stream([f"data: {event}", ""]))


@pytest.mark.parametrize(
    ("misdeed", "error"), [("too_long", RefusedError), ("no_key", StatusError)]
)
def test_a_stream_that_is_refused(stub, misdeed, error):
    stub.plan.append(misdeed)
    with pytest.raises(error):
        list(client(stub).stream(MESSAGES))
