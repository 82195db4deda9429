"""The command itself: it starts, says its address, and ends gracefully."""

import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from tests.llm.stub_server import serving as stub_serving
from tests.serving.conftest import dalm

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Where does Ada live?"}]}


def test_a_signal_lets_running_answers_end_and_takes_no_new_ones(people_index, tmp_path):
    release, asked = threading.Event(), threading.Event()

    def write(_):
        asked.set()
        release.wait(20)
        return "in Ulm"

    with stub_serving() as stub, ThreadPoolExecutor(1) as pool:
        stub.write = write
        line = ["-m", "dalm", "serve", people_index, "--port", "0", "--log-questions"]
        line += ["--generator-url", stub.url, "--generator-model", "m"]
        env = {name: value for name, value in os.environ.items() if name != "DALM_API_KEY"}
        options = {"stderr": subprocess.PIPE, "text": True, "env": env}
        with subprocess.Popen([sys.executable, *map(str, line)], **options) as process:
            url = next(
                found[0]
                for row in process.stderr
                if (found := re.search(r"http://127.0.0.1:\d+", row)) and "serving" in row
            )
            answer = pool.submit(httpx.post, url + CHAT, json=BODY, timeout=30)
            assert asked.wait(20)
            process.send_signal(signal.SIGTERM)
            assert "stopping   1 requests are running" in process.stderr.readline()
            refused = httpx.post(url + CHAT, json=BODY, timeout=10)
            assert refused.status_code == 503
            assert httpx.get(f"{url}/ready").status_code == 503
            release.set()
            told = answer.result().json()
            assert told["choices"][0]["message"]["content"] == "in Ulm"
            assert process.wait(20) == 143
            rest = process.stderr.read()
        assert '"questions": ["Where does Ada live?"]' in rest
        assert rest.splitlines()[-1] == "dalm: stopped"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (["--host", "0.0.0.0"], "set a key in the environment variable DALM_API_KEY"),
        (["--host", "203.0.113.1", "--no-auth"], "choose another address"),
        (["--port", "70000"], "must be at most 65535"),
        (["--max-concurrent", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_served_is_one_line(people_index, monkeypatch, capsys, line, problem):
    monkeypatch.delenv("DALM_API_KEY", raising=False)
    served = ["serve", people_index, "--generator-url", "http://localhost:1", "--generator-model"]
    assert dalm(*served, "m", *line) == 2
    assert problem in capsys.readouterr().err
    assert dalm("serve", people_index) == 2
    assert "dalm serve needs a generator" in capsys.readouterr().err
