import logging

import pytest

from dalm.errors import UserError
from dalm.llm.language_model import ModelError
from tests.llm.requests import OPTIONS, asked, client

KEY = "sk-very-secret-1234"


def endpoint(url, model="m", options=OPTIONS):
    return options.endpoint(url, model, "MY_KEY", max_retries=1, timeout=5)


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY} x", f"{KEY}\N{EN DASH}"])
def test_a_key_that_is_no_header(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match=r"\$MY_KEY: a key has no blanks") as caught:
        endpoint("http://localhost")
    assert KEY not in str(caught.value)


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
    found = endpoint(given)
    assert (found.url, found.api_key) == (used, None)


@pytest.mark.parametrize(
    ("url", "model", "said"),
    [
        (None, "m", "--ask needs --where, the server"),
        ("http://localhost", None, "--ask needs --who, "),
        ("localhost:8000", "m", "--where localhost:8000: not an address"),
        ("ftp://host", "m", "not an address"),
        ("http://", "m", "not an address"),
        ("http://me:secret@host", "m", "put no password or key into .*--key-env names"),
        ("http://secret@host", "m", "put no password or key"),
        ("me:secret@host/v1", "m", "put no password or key"),
        ("http://me:se/secret@host", "m", "put no password or key"),
        ("http://host/v1?api_key=secret", "m", "put no password or key into .*--key-env names"),
        ("http://host/v1?api-version=2&k=secret", "m", "put no password or key"),
        ("http://host/v1?secret", "m", "put no password or key"),
        ("http://host/v1#secret", "m", "put no password or key"),
        ("http://host/sk-secretsecret/v1", "m", "put no password or key"),
        ("http://host/token/secret", "m", "put no password or key"),
        ("http://127.0.0.1:99999/v1", "m", "no port 99999; ports are numbers from 1 to 65535"),
        ("http://host:0", "m", "no port 0"),
        ("http://host:-1", "m", "no port -1"),
        ("http://host:x", "m", "not an address"),
        ("http://[::1", "m", "not an address"),
        ("http://a..b", "m", "not an address"),
        ("http://" + "a" * 300, "m", "not an address"),
        ("http://two words", "m", "not an address"),
        ("http://host/\n", "m", "not an address"),
        ("http://host/" + "a" * 70_000, "m", "not an address"),
        ("http://host", "\udcff", "--who .*: not a name"),
    ],
)
def test_addresses_that_are_none(url, model, said):
    with pytest.raises(UserError, match=said) as caught:
        endpoint(url, model)
    assert "secret" not in str(caught.value)


# What goes wrong names the option to change


def generate(stub, number=4, **patience):
    failures = []
    model = client(stub, 1, served=True, **patience)
    model.generate(asked(number), lambda *_: None, lambda _, error: failures.append(str(error)))
    return failures


KEPT = "replies so far are kept, the same command continues from there"


@pytest.mark.parametrize(
    ("misdeeds", "said"),
    [
        (["no_key"], r"401 .*; set the key in the environment \(--key-env names the variable\)$"),
        (["no_model"], "404 no model m; check --where .* and --who$"),
        (["", "busy_all_day"], f"try again in 1440 minutes .*; {KEPT}$"),
        (["fail"] * 9, f"500 out of memory; check the server and --who; {KEPT}$"),
    ],
)
def test_an_error_names_the_option_to_change(stub, misdeeds, said):
    stub.plan.extend(misdeeds)
    with pytest.raises(UserError, match=said):
        generate(stub, max_retries=1)


def test_a_timeout_names_its_option(stub):
    stub.plan.append("sleep")
    assert generate(stub, timeout=0.3, max_retries=0) == ["no answer in 0.3 s (--wait)"]
    stub.plan.extend(["sleep"] * 9)
    with pytest.raises(UserError, match=r"no answer in 0.1 s \(--wait\); check the server"):
        generate(stub, timeout=0.1, max_retries=0)


@pytest.mark.parametrize(
    "proxy", ["htt://me:secret@host", "http://me:secret@[::1", "socks9://me:secret@host"]
)
def test_a_proxy_that_is_none(stub, monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    for ask in (generate, lambda it: list(client(it, served=True).stream([]))):
        with pytest.raises(UserError, match=r"no connection can be made .*HTTP_PROXY") as caught:
            ask(stub)
        assert "secret" not in str(caught.value)


def test_a_redirect_is_not_followed_and_names_no_key(stub):
    stub.plan.extend(["redirect"] * 9)
    with pytest.raises(UserError, match=r"302 .*; check --where$") as caught:
        generate(stub)
    assert "other-key" not in str(caught.value)


@pytest.mark.parametrize("misdeed", ["nest", "bad_gzip"])
def test_a_body_that_can_not_be_read_is_a_failure(stub, misdeed):
    stub.plan.extend([misdeed] * 9)
    with pytest.raises(UserError, match="failed 3 times in a row"):
        generate(stub, max_retries=0)


def test_a_stream_names_it_as_well(stub):
    stub.plan.append("no_key")
    with pytest.raises(UserError, match="--key-env names"):
        list(client(stub, served=True).stream([{"role": "user", "content": "hello"}]))


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("misdeed", ["", "no_key", "echo_key", "fail"])
def test_the_key_goes_to_the_server_and_nowhere_else(stub, misdeed, served, caplog, capsys):
    stub.plan.extend([misdeed] * 9)
    said = ""
    with caplog.at_level(logging.DEBUG):
        try:
            found, model = [], client(stub, 1, KEY, served, max_retries=1)
            model.generate(asked(2), lambda *r: found.append(r), lambda *f: found.append(f))
            said = f"{found} {model.endpoint}"
        except (UserError, ModelError) as error:
            said = str(error)
    assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert said
    printed = capsys.readouterr()
    for text in (said, caplog.text, printed.out, printed.err):
        assert KEY not in text
