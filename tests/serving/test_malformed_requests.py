"""Whatever is sent is answered with a 4xx and its reason: no failure, no traceback, no hang."""

import json
import logging
import random
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

PATHS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"),
    *("/search", "/documents", "/v1/comparisons", "/v1/feedback"),
)
GOOD = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Where is Ulm?"}]},
    "/v1/completions": {"prompt": "Where is Ulm?"},
    "/v1/embeddings": {"input": "Ulm"},
    "/v1/rerank": {"query": "Ulm", "documents": ["Ulm"]},
    "/search": {"query": "Ulm"},
    "/documents": {"text": "Some words of a text.", "title": "t"},
    "/v1/comparisons": {"question": "Where is Ulm?"},
    "/v1/feedback": {"answer_id": "none", "person": "p", "kind": "answer", "value": 1},
}
WRONG = (None, True, -1, 1e308, 10**30, "", " ", "\0", [], [[]], [None], {}, {"a": {}}, "x" * 5000)
GOOD_TEXTS = ("\0", "x" * 5000)
"""Questions that have an answer."""
BODIES = (
    *(b"", b"{", b"null", b"[]", b'"text"', b"{}x", b"\xff\xfe{}", b'{"a": \xc3}', b"\0" * 100),
    *(b"[" * 50_000, b'{"a":' * 50_000, b'{"model": NaN}', b'{"model": Infinity}'),
    *(b'{"model": 1, "model": 2}', b'{"query": "\\ud800"}', b'{"n": ' + b"9" * 5000 + b"}"),
    *(b'{"query": "\\u12"}', b"a=b&c=d", b"\x1f\x8b\x08\x00broken", b"{'query': 'x'}"),
)
TARGETS = (
    *("/../../etc/passwd", "/page/../../../etc/passwd", "/page/%2e%2e/page_routes.py"),
    *("/documents/..%2f..%2fetc", "//etc/passwd", "/v1//models", "/%00", "/page/page.js%00.html"),
    *("/v1/passages/%00/original", "/v1/passages/..%2f..%2fetc/original", "/v1/passages//context"),
    *("/v1/passages/none/original/../../x", "/v1/answers/%ff", "/v1/answers/", "/v1/answers/a/b"),
    *("/v1/sources?limit=0", "/v1/sources?offset=-1", "/v1/sources?limit=%00", "/v1/comparisons"),
    *("/documents?limit=-1", "/documents?limit=1e9", "/documents?offset=%ff", "/" + "a" * 3000),
    *("/v1/models/../../x", "/search/", "/\\..\\..\\windows", "/%c0%ae%c0%ae/etc"),
)
METHODS = ("PUT", "PATCH", "TRACE", "DELETE", "PROPFIND", "get", "X" * 300, "GET ")


def request(
    method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    given = {"Host": "localhost", "Content-Type": "application/json"}
    given |= {"Content-Length": str(len(body)), "Connection": "close"} | (headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def malformed(rng: random.Random, models: dict[str, str]) -> Iterator[bytes]:
    """Yield malformed requests of every kind, for every address that takes a body."""
    for path in PATHS:
        good = GOOD[path] | ({"model": models[path]} if path in models else {})
        for body in BODIES:
            yield request("POST", path, body)
        required = next(iter(GOOD[path]))
        for value in rng.sample(WRONG, 10):
            if value not in GOOD_TEXTS:
                yield request("POST", path, json.dumps(good | {required: value}).encode())
        unknown = {rng.choice(("__proto__", "path", "file://", "")): rng.choice(WRONG)}
        yield request("POST", path, json.dumps(good | unknown).encode())
        yield from broken_frames(path, json.dumps(good).encode(), rng)
        for method in rng.sample(METHODS, 4):
            if (method, path) != ("DELETE", "/documents"):
                yield request(method, path)
    for target in TARGETS:
        yield request("GET", target)
        yield request("DELETE", target)


def broken_frames(path: str, body: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield a good body in broken HTTP."""
    noise = rng.randbytes(200)
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    chunked = {"Transfer-Encoding": "chunked"}
    whole = request("POST", path, body)
    yield whole[: len(whole) - len(body) // 2]
    yield whole[: rng.randrange(1, 60)]
    yield noise
    yield b"POST " + path.encode() + b" HTTP/9.9\r\n\r\n"
    for length in ("-1", "x", "9" * 30, "1, 2", "99999999999"):
        yield request("POST", path, body, {"Content-Length": length})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "text/html", "\xff"):
        yield request("POST", path, body, {"Content-Type": kind})
    yield request("POST", path, body, boundary)
    yield request("POST", path, b"--x\r\nContent-Disposition: form-data\r\n\r\n", boundary)
    yield request("POST", path, noise, boundary)
    for chunks in (b"zz\r\n" + body, b"-5\r\n", b"ffffffffffffffffff\r\n", b"5\r\n{"):
        head = request("POST", path, b"", chunked).replace(b"Content-Length: 0\r\n", b"")
        yield head + chunks
    yield request("POST", path, body, {"Host": "evil.example"})
    yield request("POST", path, body, {"Origin": "https://evil.example"})
    yield request("POST", path, body, {"X-Long": "a" * 70_000})
    yield request("POST", path, body, {"A b": "c"})


def sent(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes, end the sending, and return what comes back."""
    with socket.create_connection(address, timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused before all was sent
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionResetError:
            pass
        return found


def judged(answer: bytes) -> str:
    """Return what is wrong with an answer; empty if nothing."""
    if not answer:
        return ""  # the request wasn't whole: there is nobody to answer
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if not 400 <= status < 500:
        return f"status {status}: {body[:200]!r}"
    if b"Traceback" in body or b"/dalm/" in body:
        return f"it tells of the server: {body[:200]!r}"
    if b"json" not in head.lower():  # HTTP that the protocol's parser refuses
        return "" if b"Invalid HTTP request" in body else f"no JSON: {body[:200]!r}"
    error = json.loads(body)["error"] if body else {"message": "HEAD"}
    return "" if error["message"] else "no reason"


@pytest.fixture(scope="module")
def url(serving, people_index, tiny_models, tmp_path_factory) -> Iterator[str]:
    """A server that lets clients do everything, with a copy of the index."""
    folder = tmp_path_factory.mktemp("malformed") / "index"
    options = {
        "allow_uploads": True,
        "feedback": True,
        "documents": str(people_index.parent),
        "compare_generator_name_or_path": str(tiny_models.generator),
    }
    with serving(shutil.copytree(people_index, folder), **options) as address:
        yield address


@pytest.fixture(scope="module")
def http(url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def models(http) -> dict[str, str]:
    served = [each["id"] for each in http.get("/v1/models").json()["data"]]
    return {"/v1/chat/completions": served[0], "/v1/completions": served[0]}


def test_malformed_requests_are_refused_with_a_reason(url, http, models, caplog):
    address = ("127.0.0.1", urlsplit(url).port)
    requests = list(malformed(random.Random(1), models))
    assert len(requests) >= 300
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda data: sent(address, data), requests))
    wrong = [
        f"{data[:160]!r} -> {problem}"
        for data, answer in zip(requests, answers, strict=True)
        if (problem := judged(answer))
    ]
    assert not wrong, "\n".join(wrong)
    answered = sum(bool(answer) for answer in answers)
    assert answered > 0.9 * len(requests)
    failed = [record.getMessage() for record in caplog.records if record.exc_info]
    failed += [r.getMessage() for r in caplog.records if "Traceback" in r.getMessage()]
    assert failed == []
    assert {each["source"] for each in http.get("/documents").json()["data"]} == {
        "men.pdf",
        "people.pdf",
    }


def test_slow_clients_stop_nobody(url, http):
    address = ("127.0.0.1", urlsplit(url).port)
    body = json.dumps({"query": "Ulm"}).encode()
    whole = request("POST", "/search", body)
    done = threading.Event()

    def slowly() -> None:
        with socket.create_connection(address, timeout=10) as connection:
            for byte in whole[:-1]:
                connection.sendall(bytes([byte]))
                if done.wait(0.2):
                    return

    slow = [threading.Thread(target=slowly) for _ in range(40)]
    for each in slow:
        each.start()
    for _ in range(5):
        assert http.post("/search", json={"query": "Ulm"}, timeout=10).status_code == 200
    done.set()
    for each in slow:
        each.join()
