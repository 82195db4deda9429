"""Secrets: in no part of an address, and in nothing that a server or a library says."""

import pytest

from dalm.redaction import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/v1", "https://***@host/v1"),
        ("https://pw@host/v1 and more", "https://***@host/v1 and more"),
        ("https://me:p@ss@host/v1", "https://***@host/v1"),
        ("https://me:pa/ss#w?rd@host/v1", "https://***@host/v1"),
        ("me:pw@host/v1", "***@host/v1"),
        ("proxy socks5://me:pw@[::1]:8080 failed", "proxy socks5://***@[::1]:8080 failed"),
        ("http://host/v1?api_key=abc&x=1#token=d", "http://host/v1?api_key=***&x=1#token=***"),
        ("http://host/v1?subscription-Key=abc", "http://host/v1?subscription-Key=***"),
        ("http://host/v1?sig=a%2Bb;pw=c", "http://host/v1?sig=***;pw=***"),
        ("http://me%3Apw%40host/v1", "http://***@host/v1"),
        ("//me:pw@host/v1", "//***@host/v1"),
        ("pw@host:8000/v1", "***@host:8000/v1"),
        ("http://host/Zs3cr3tK9qW/v1", "http://host/***/v1"),
        ("http://host/Zs3cr3tK9qW?x=1", "http://host/***?x=1"),
        ("http://host/v1?x=Zs3cr3tK9qW&y=1", "http://host/v1?x=***&y=1"),
        ("http://host/v1#Zs3cr3tK9qW: no folder", "http://host/v1#***: no folder"),
        ("http://host/key/abc/v1", "http://host/key/***/v1"),
        ("http://host/token=abc/v1", "http://host/token=***/v1"),
        ("http://host/sk-proj-abcdefghijk/v1", "http://host/***/v1"),
        ("http://host/Ab3dEf6hIj9kLm2nOp5q/v1", "http://host/***/v1"),
        ("Incorrect API key provided: sk-abcdefgh12", "Incorrect API key provided: ***"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ('{"api_key": "abcdefgh"}', '{"api_key": "***"}'),
        ("password='hunter2'", "password='***'"),
        ("hf_AbCdEfGhIjKlMnOpQrSt is no token", "*** is no token"),
        ("hf_abcdefghijklmnopqrstuvwxyz", "***"),
        ("gsk_abcdefgh xai-abcdefgh ghp_abcdefgh", "*** *** ***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.sig-1", "***"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8000/v1",
        "https://host:8443/users/@me",
        "https://huggingface.co/Qwen/Qwen2-7B-Instruct/resolve/main/config.json",
        "https://host/openai/deployments/gpt?api-version=2024-06-01-preview",
        "https://huggingface.co/BAAI/bge-small-en-v1.5/resolve/main/config.json",
        "https://gateway.example/0123456789abcdef0123456789abcdef/gw/openai",
        "--hub-token: a token has no spaces or line breaks; copy it again",
        "--api-key-env OPENAI_API_KEY names the environment variable",
        "no column 'hf_tokens', only 'pk_customer_id', 'author: name'",
        "/data/hf_models/bge-small-en-v1.5/tokenizer.json, line 3: broken",
        "12:30@noon is a time; mail me@example.org",
        "a basic retriever; the bearer of",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redacted(text) == text.replace("12:30@noon", "***@noon")


def test_values_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "plain-words-8")
    monkeypatch.setenv("HF_TOKEN", "short")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "something")
    said = "401 plain-words-8 is not short of something"
    assert redacted(said) == "401 *** is not short of something"
    assert redacted(said, "short") == "401 *** is not *** of something"
