"""Who may use the server, and what of."""

import pytest

from dalm.config import Serve
from dalm.errors import UserError
from dalm.serving.guards import access_key

KEY = "a key of a test"


def test_another_host_needs_a_key_or_a_word(monkeypatch):
    monkeypatch.delenv("DALM_API_KEY", raising=False)
    assert access_key(Serve()) is None
    assert access_key(Serve(host="::1")) is None
    assert access_key(Serve(host="0.0.0.0", auth=False)) is None
    for host in ("0.0.0.0", "::", "wiki.example.org", "192.168.1.7"):
        with pytest.raises(UserError, match="DALM_API_KEY, or add --no-auth"):
            access_key(Serve(host=host))
    monkeypatch.setenv("DALM_API_KEY", "sk-0123456789")
    assert access_key(Serve(host="0.0.0.0")) == "sk-0123456789"
    with pytest.raises(UserError, match="--no-auth would ignore it"):
        access_key(Serve(auth=False))
    monkeypatch.setenv("DALM_API_KEY", KEY)
    with pytest.raises(UserError, match="no blanks"):
        access_key(Serve())


def test_the_key_is_asked_for_and_never_told(serving, monkeypatch, caplog):
    monkeypatch.setenv("DALM_API_KEY", "k3y")
    caplog.set_level("INFO")
    with serving() as url:
        import httpx2 as httpx

        for sent in ({}, {"Authorization": "Bearer k3x"}, {"Authorization": "Basic k3y"}):
            refused = httpx.get(f"{url}/v1/models", headers=sent)
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
            assert "k3" not in refused.text
        right = {"Authorization": "Bearer k3y"}
        assert httpx.get(f"{url}/v1/models", headers=right).status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/metrics").status_code == 401
    assert "k3y" not in caplog.text


def test_a_page_of_another_site_is_refused(http):
    rebound = http.get("/v1/models", headers={"Host": "evil.example:8000"})
    assert rebound.status_code == 403
    foreign = http.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "origin")
    own = http.get("/v1/models", headers={"Origin": str(http.base_url).rstrip("/")})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers
    assert own.headers["x-content-type-options"] == "nosniff"
    form = http.post("/search", content='{"query": "Ada"}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 415


def test_a_named_origin_is_let_in(serving):
    import httpx2 as httpx

    wiki = "https://wiki.example.org"
    with serving(cors_origin=[wiki]) as url:
        asked = {"Origin": wiki, "Access-Control-Request-Method": "POST"}
        preflight = httpx.options(f"{url}/search", headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == wiki
        used = httpx.post(f"{url}/search", json={"query": "Ada"}, headers={"Origin": wiki})
        assert used.headers["access-control-allow-origin"] == wiki
        other = httpx.get(f"{url}/v1/models", headers={"Origin": "https://evil.example"})
        assert other.status_code == 403


@pytest.mark.parametrize("told", [True, False])
def test_a_large_body_is_refused(http, told):
    piece = b"x" * 2**20

    def pieces():
        yield from [piece] * 5

    content = piece * 5 if told else pieces()
    kind = {"Content-Type": "application/json"}
    refused = http.post("/search", content=content, headers=kind)
    assert refused.status_code == 413
    assert "larger than 4,194,304 bytes" in refused.json()["error"]["message"]


@pytest.mark.parametrize("told", [True, False])
def test_the_refusal_reaches_a_client_that_sends_to_the_end_before_it_reads(serving, told):
    import socket
    import time
    from urllib.parse import urlsplit

    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if told:
        head += b"Content-Length: %d\r\n\r\n" % (5 * 2**20)
        pieces = [b"x" * 2**20] * 5
    else:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        pieces = [b"100000\r\n" + b"x" * 2**20 + b"\r\n"] * 5 + [b"0\r\n\r\n"]
    with serving() as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(head)
            for piece in pieces:
                time.sleep(0.05)
                client.sendall(piece)
            answer = b""
            while piece := client.recv(2**16):
                answer += piece
    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.endswith(b"}")
