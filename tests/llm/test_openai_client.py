import asyncio
import socket
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dalm.errors import UserError
from dalm.llm.server_errors import (
    BusyError,
    RefusedError,
    ServerError,
    StatusError,
    TimedOutError,
    UnavailableError,
)
from tests.llm.requests import asked, client
from tests.llm.stub_server import Sent, Stub, serving


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


class Turns(deque[Sent]):
    """Puts the first question off until 20 others were asked."""

    def __init__(self, stub: Stub) -> None:
        super().__init__([Sent({"error": "your turn comes"}, 429, {"retry-after-ms": "20"})])
        self.stub = stub

    def popleft(self) -> Sent | str:
        asked = self.stub.prompts()
        others = sum(prompt != "question 0" for prompt in asked)
        return self[0] if asked[-1] == "question 0" and others < 20 else ""


def test_a_request_that_is_put_off_while_others_are_answered_is_not_given_up(stub):
    stub.plan = Turns(stub)
    assert len(Run(stub, number=25, concurrency=3, max_retries=3).answers()) == 25
    assert stub.prompts().count("question 0") > 4


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
    assert len(stub.bodies) == 4, "the first one also without its schema"


def test_a_server_that_dies_ends_the_run_and_keeps_what_was_answered(stub):
    stub.plan.extend([""] * 3 + ["fail"] * 100)
    kept = []
    model = client(stub, 1, max_retries=1, first_wait=0.001)
    with pytest.raises(UnavailableError, match="500 out of memory"):
        model.generate(asked(50), lambda request, reply: kept.append(reply), lambda *_: None)
    assert len(kept) == 3


# A server that can't hold a reply to a schema


@pytest.mark.parametrize("code", [400, 422, 500, 501])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_schema_that_a_server_can_not_take_is_left_out(stub, code, concurrency):
    stub.refuses_schema = Sent({"error": {"message": "failed"}}, code)
    run = Run(stub, number=12, concurrency=concurrency)
    assert len(run.replies) == 12
    assert not run.failures
    with_schema = ["response_format" in body for body in stub.bodies]
    assert sum(with_schema) <= 2 * concurrency
    assert not any(with_schema[4 * concurrency :])


def test_a_server_that_takes_the_schema_keeps_it_whatever_fails_later(stub):
    failed = Sent({"error": {"message": "failed"}}, 500)
    stub.plan.extend(["", failed, failed, failed, Sent({"error": "it is long"}, 400)])
    run = Run(stub, number=4, concurrency=1)
    assert len(run.replies) == 3
    assert all("response_format" in body for body in stub.bodies)


def test_one_trial_without_the_schema_is_enough(stub):
    stub.plan.extend([Sent({"error": "it is long"}, 400)] * 3)
    run = Run(stub, number=5, concurrency=1)
    assert len(run.failures) == 2
    assert ["response_format" in body for body in stub.bodies] == [True, False, *[True] * 4]


# No connection


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:{port}/v1", "nothing listens there; start the server, or check --where"),
        ("http://no-such-host.invalid/v1", r"no such host \(.*; check --where$"),
        ("https://127.0.0.1:{stub}/v1", "speaks no TLS; write http:// in --where$"),
    ],
)
def test_an_address_without_a_server_ends_the_run_at_once(stub, url, said):
    url = url.format(port=free_port(), stub=stub.url.split(":")[2].split("/")[0])
    start = time.monotonic()
    with pytest.raises(UserError, match=said):
        Run(url, number=50, served=True, max_retries=8, first_wait=0.5)
    assert time.monotonic() - start < 5
    with pytest.raises(UserError, match=said):
        list(client(url, served=True, max_retries=8).stream(MESSAGES))


# anyio leaves the sockets of failed handshakes to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_that_is_not_trusted(tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    with serving(certificate) as stub:
        with pytest.raises(UserError, match=r"isn't trusted \(self-signed .* SSL_CERT_FILE"):
            Run(stub.url, served=True, max_retries=8, first_wait=0.5)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Run(stub.url).answers() == ALL


def self_signed(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 and its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    signed = made.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_server_that_restarts_in_the_middle_is_waited_for(stub):
    replies = []

    def restart(request, reply) -> None:
        replies.append(reply)
        if len(replies) == 2:
            stub.stop()
            threading.Timer(0.3, stub.start).start()

    model = client(stub, 1, max_retries=8, first_wait=0.1)
    model.generate(asked(4), restart, lambda *failed: pytest.fail(str(failed)))
    assert len(replies) == 4


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
