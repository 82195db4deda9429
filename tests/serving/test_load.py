"""More requests than places, clients that leave, clients that stall, time limits."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from tests.llm.stub_server import serving as stub_serving

CHAT = "/v1/chat/completions"


def body(question="Where does Ada live?", model="generator", **fields):
    return {"model": model, "messages": [{"role": "user", "content": question}]} | fields


@pytest.fixture
def stub():
    with stub_serving() as served:
        yield served


def eventually(holds, seconds=10.0):
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_fifty_at_once_get_the_answers_of_one(http, tiny_rows):
    questions = [row["Query"] for row in tiny_rows] * 3
    alone = {each: http.post(CHAT, json=body(each)).json()["choices"] for each in set(questions)}

    def ask(place):
        return http.post(CHAT, json=body(questions[place], stream=False)).json()["choices"]

    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(ask, range(50)))
    assert found == [alone[questions[place]] for place in range(50)]


def test_a_request_too_many_is_told_when_to_come_back(serving, stub):
    release = threading.Event()
    stub.write = lambda asked: str(release.wait(20))
    options = {"generator_url": stub.url, "generator_model": "m"}
    with serving(max_concurrent=1, max_waiting=1, **options) as url, ThreadPoolExecutor(2) as pool:
        first = [pool.submit(httpx.post, url + CHAT, json=body(model="m"), timeout=30)]
        eventually(lambda: stub.under_way == 1)
        first.append(pool.submit(httpx.post, url + CHAT, json=body(model="m"), timeout=30))
        metrics = httpx.Client()
        eventually(lambda: "dalm_waiting_answers 1.0" in metrics.get(f"{url}/metrics").text)
        refused = httpx.post(url + CHAT, json=body(model="m"))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "server_busy"
        assert httpx.get(f"{url}/health").status_code == 200
        release.set()
        assert [each.result().status_code for each in first] == [200, 200]
        metrics.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_time_limit_is_a_504(serving, stub, stream):
    stub.delay = 5.0
    options = {"generator_url": stub.url, "generator_model": "m", "request_timeout": 0.3}
    with serving(**options) as url:
        late = httpx.post(url + CHAT, json=body(model="m", stream=stream), timeout=30)
    assert late.status_code == 504
    assert late.json()["error"]["type"] == "timeout_error"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_gives_its_place_back(serving, stub, caplog, stream):
    caplog.set_level("INFO")
    stub.delay = 1.0
    options = {"generator_url": stub.url, "generator_model": "m", "max_concurrent": 1}
    with serving(**options) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url + CHAT, json=body(model="m", stream=stream), timeout=0.5)
        stub.delay = 0.0
        after = httpx.post(url + CHAT, json=body(model="m"), timeout=30)
        assert after.status_code == 200
    lines = [json.loads(r.message) for r in caplog.records if r.message.startswith("{")]
    assert [line["status"] for line in lines] == [499, 200]


def test_a_stalled_client_does_not_stop_others(serving):
    with serving(max_concurrent=1) as url:
        host, port = url.removeprefix("http://").split(":")
        stalled = []
        content = json.dumps(body(stream=True)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        for sent in (
            b"POST /v1/chat",
            f"{head}Content-Length: 500\r\n\r\n{{".encode(),
            f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content,  # never reads
        ):
            stalled.append(socket.create_connection((host, int(port))))
            stalled[-1].sendall(sent)
        assert httpx.post(url + CHAT, json=body(), timeout=20).status_code == 200
        for each in stalled:
            each.close()


def test_a_generator_on_a_server_is_sent_what_the_client_asks(serving, stub):
    stub.write = lambda asked: "in Ulm"
    with serving(generator_url=stub.url, generator_model="m") as url:
        asked = body(model="m", temperature=0.7, top_p=0.5, seed=3, max_tokens=9, stop=["x"])
        answer = httpx.post(url + CHAT, json=asked, timeout=20).json()
        assert answer["choices"][0]["message"]["content"] == "in Ulm"
        [sent] = stub.bodies
        wanted = {"temperature": 0.7, "top_p": 0.5, "seed": 3, "max_tokens": 9, "stop": ["x"]}
        assert {name: sent[name] for name in wanted} == wanted
        stub.plan.append("too_long")
        refused = httpx.post(url + CHAT, json=body(model="m"), timeout=20)
        assert refused.status_code == 400
        assert "512 tokens" in refused.json()["error"]["message"]
        stub.plan.append("no_key")
        failed = httpx.post(url + CHAT, json=body(model="m"), timeout=20)
        assert failed.status_code == 502
        follow = [
            *body()["messages"],
            {"role": "assistant", "content": "in Ulm"},
            {"role": "user", "content": "and Cyrus?"},
        ]
        stub.write = lambda asked: "Where does Cyrus live?"
        told = httpx.post(url + CHAT, json={"model": "m", "messages": follow}, timeout=20).json()
        assert told["searched"] == "Where does Cyrus live?"
