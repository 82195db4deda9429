import pytest

from dalm.errors import UserError
from dalm.llm.chat_completions import Server, server_of
from tests.llm.requests import OPTIONS

KEY = "sk-very-secret-1234"


def test_what_was_kept_is_said_with_the_command_that_goes_on():
    assert OPTIONS.kept == "what was answered is kept, the same command goes on from there"


def test_the_key_is_in_no_traceback():
    assert KEY not in repr(Server("http://localhost", "m", OPTIONS, KEY))


@pytest.mark.parametrize("key", [f"{KEY}\nx", f"{KEY} x", f"{KEY}\N{EN DASH}"])
def test_a_key_that_is_no_header(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match=r"\$MY_KEY: no key has blanks") as caught:
        server_of("http://localhost", "m", "MY_KEY", OPTIONS)
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
    assert server_of(given, "m", "MY_KEY", OPTIONS) == (used, None)


@pytest.mark.parametrize(
    ("url", "model", "said"),
    [
        (None, "m", "--ask needs --where, the server"),
        ("http://localhost", None, "--ask needs --who, "),
        ("localhost:8000", "m", "--where localhost:8000: no address"),
        ("ftp://host", "m", "no address"),
        ("http://", "m", "no address"),
        ("http://me:secret@host", "m", "put no password"),
        ("http://host/v1?api_key=secret", "m", "put no password"),
    ],
)
def test_addresses_that_are_none(url, model, said):
    with pytest.raises(UserError, match=said) as caught:
        server_of(url, model, "MY_KEY", OPTIONS)
    assert "secret" not in str(caught.value)
