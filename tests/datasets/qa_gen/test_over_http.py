import asyncio
import logging

import pytest

from dalm.datasets.qa_gen.asking import Request, requests_of
from dalm.datasets.qa_gen.choosing import read_reply
from dalm.datasets.qa_gen.endpoint import Server, server_of
from dalm.datasets.qa_gen.over_http import Asker
from dalm.datasets.qa_gen.wording import Wording
from dalm.errors import UserError
from dalm.records import Passage

KEY = "sk-very-secret-1234"
PARAMETERS = {"temperature": 0.0, "max_tokens": 200, "seed": 1}


def requests(number: int, wording: Wording | None = None) -> list[Request]:
    texts = [f"The engine number {n} of Ulm burns peat pellets." for n in range(number)]
    asked = wording or Wording(3, ("fact",))
    return requests_of([Passage.of(text) for text in texts], asked, "m", PARAMETERS)


class Run:
    """What came of asking."""

    def __init__(self, stub, number=4, concurrency=4, key=None, **server) -> None:
        self.asked = requests(number)
        self.replies, self.failures = {}, {}
        url = f"{stub if isinstance(stub, str) else stub.url}/chat/completions"
        settings = {"max_retries": 4, "timeout": 5.0, "first_wait": 0.01} | server
        asker = Asker(Server(url, "m", key, **settings), concurrency, PARAMETERS)
        asker.ask(self.asked, self.answered, self.failed)

    def answered(self, request, reply) -> None:
        assert request.key not in self.replies
        self.replies[request.key] = reply

    def failed(self, request, reason) -> None:
        self.failures[request.key] = reason

    def questions(self) -> list[str]:
        return [
            pair.query
            for request in self.asked
            for pair in read_reply(self.replies[request.key].text, request, "m", [])
        ]


ALL = [f"What does engine {n} of Ulm burn?" for n in range(4)]


def test_every_request_is_put_once_with_prompt_parameters_and_schema(stub):
    run = Run(stub)
    assert run.questions() == ALL
    assert len(stub.bodies) == 4
    body = stub.bodies[0]
    assert body["model"] == "m"
    assert body["max_tokens"] == 200
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    schema = body["response_format"]["json_schema"]["schema"]
    item = schema["properties"]["questions"]["items"]
    assert set(item["required"]) == {"question", "answer", "quote", "kind"}
    assert item["properties"]["kind"]["enum"] == ["fact"]
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
    assert run.questions() == ALL
    assert len(stub.bodies) == 7
    assert not run.failures


def test_a_late_answer_is_asked_for_again(stub):
    stub.plan.append("sleep")
    assert Run(stub, concurrency=1, timeout=0.3).questions() == ALL
    assert len(stub.bodies) == 5


@pytest.mark.parametrize("misdeed", ["busy", "busy_till"])
def test_a_busy_server_is_asked_again_when_it_said(stub, misdeed):
    stub.plan.append(misdeed)
    run = Run(stub, number=4, concurrency=1, first_wait=0.0)
    assert run.questions() == ALL
    assert len(stub.bodies) == 5
    assert stub.times[1] - stub.times[0] > 0.4  # a date has whole seconds


def test_a_busy_server_is_left_alone_by_all_requests(stub):
    stub.plan.append("busy")
    stub.delay = 0.4
    assert Run(stub, number=4, concurrency=2, first_wait=0.0).questions() == ALL
    assert stub.times[2] - stub.times[0] > 0.9, "the one that was under way is no reason to go on"


def test_a_server_out_of_quota_ends_the_run(stub):
    stub.plan.extend(["", "busy_all_day"])
    with pytest.raises(UserError, match=r"come back in 1440 minutes .*quota is used up.*kept"):
        Run(stub, concurrency=1)


def test_a_cut_answer_is_an_answer_but_none_to_read(stub):
    stub.plan.append("cut")
    run = Run(stub, concurrency=1)
    rejections = []
    assert read_reply(run.replies[run.asked[0].key].text, run.asked[0], "m", rejections) == []
    assert [rejection.gate for rejection in rejections] == ["answer readable"]
    assert len(stub.bodies) == 4, "a model that says the same again is not asked again"


@pytest.mark.parametrize(
    ("misdeed", "missing", "there"),
    [
        ("no_schema", {"response_format"}, set()),
        ("new_name", {"max_tokens"}, {"max_completion_tokens"}),
    ],
)
def test_a_parameter_that_the_server_lacks_is_left_out_from_then_on(stub, misdeed, missing, there):
    stub.plan.extend([misdeed] * 5)
    assert Run(stub, concurrency=1).questions() == ALL
    assert len(stub.bodies) == 5, "one refusal is enough"
    for body in stub.bodies[1:]:
        assert not missing & set(body)
        assert there <= set(body)
        assert {"model", "messages", "seed", "temperature"} <= set(body)


def test_one_refused_passage_stops_nobody_else(stub):
    stub.plan.extend(["", "too_long"])
    run = Run(stub, concurrency=1)
    assert len(run.replies) == 3
    assert run.failures == {run.asked[1].key: "400 the context holds 512 tokens"}


def test_a_server_that_refuses_everything_ends_the_run(stub):
    stub.plan.extend(["too_long"] * 100)
    with pytest.raises(UserError, match="3 times in a row no answer, at last: 400 the context"):
        Run(stub, number=50, concurrency=1)
    assert len(stub.bodies) == 3


def test_a_server_that_dies_ends_the_run_and_keeps_what_was_answered(stub):
    stub.plan.extend([""] * 3 + ["fail"] * 100)
    kept = []
    asker = Asker(Server(f"{stub.url}/chat/completions", "m", None, 1, 5.0, 0.001), 1, PARAMETERS)
    with pytest.raises(UserError, match="500 out of memory; check the server"):
        asker.ask(requests(50), lambda request, reply: kept.append(reply), lambda *_: None)
    assert len(kept) == 3


def test_no_server_at_all():
    with pytest.raises(UserError, match=r"the connection failed .*; check the server"):
        Run("http://127.0.0.1:9", number=4, concurrency=1, max_retries=1)


@pytest.mark.parametrize(("misdeed", "said"), [("no_key", "api-key-env"), ("no_model", "--model")])
def test_what_the_user_must_mend_is_said_at_once(stub, misdeed, said):
    stub.plan.extend([misdeed] * 9)
    with pytest.raises(UserError, match=said):
        Run(stub, concurrency=1)
    assert len(stub.bodies) == 1


def test_a_notebook_has_a_loop_running_already(stub):
    async def cell() -> Run:
        return Run(stub)

    assert asyncio.run(cell()).questions() == ALL


# The key


@pytest.mark.parametrize("misdeed", ["", "no_key", "echo_key", "fail"])
def test_the_key_goes_to_the_server_and_nowhere_else(stub, misdeed, caplog, capsys):
    stub.plan.extend([misdeed] * 9)
    said = ""
    with caplog.at_level(logging.DEBUG):
        try:
            run = Run(stub, number=2, concurrency=1, key=KEY, max_retries=1)
            said = f"{run.replies} {run.failures}"
        except UserError as error:
            said = str(error)
    assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert said
    printed = capsys.readouterr()
    for text in (said, caplog.text, printed.out, printed.err):
        assert KEY not in text


def test_the_key_is_in_no_traceback():
    assert KEY not in repr(Server("http://localhost", "m", KEY))


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY} x", f"{KEY}\N{EN DASH}"])
def test_a_key_that_is_no_header(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match=r"\$MY_KEY: no key has blanks") as caught:
        server_of("http://localhost", "m", "MY_KEY")
    assert KEY not in str(caught.value)


# Addresses


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
        ("https://host/api/v1/chat/completions", "https://host/api/v1/chat/completions"),
        ("https://host/x?api-version=2", "https://host/x/chat/completions?api-version=2"),
    ],
)
def test_addresses(monkeypatch, given, used):
    monkeypatch.delenv("MY_KEY", raising=False)
    assert server_of(given, "m", "MY_KEY") == (used, None)


@pytest.mark.parametrize(
    ("url", "model", "said"),
    [
        (None, "m", "needs --base-url"),
        ("http://localhost", None, "needs --model"),
        ("localhost:8000", "m", "no address"),
        ("ftp://host", "m", "no address"),
        ("http://", "m", "no address"),
        ("http://me:secret@host", "m", "put no password"),
        ("http://host/v1?api_key=secret", "m", "put no password"),
    ],
)
def test_addresses_that_are_none(url, model, said):
    with pytest.raises(UserError, match=said) as caught:
        server_of(url, model, "MY_KEY")
    assert "secret" not in str(caught.value)
