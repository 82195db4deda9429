"""A server that speaks the protocol of chat completions, and misbehaves when told to."""

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Stub:
    """What the server does and what it was asked; `plan` holds its next misdeeds."""

    url: str = ""
    plan: deque[str] = field(default_factory=deque)
    delay: float = 0.0
    write: Callable[[str], str] = lambda asked: f"an answer to: {asked}"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies]


class Door(BaseHTTPRequestHandler):
    stub: Stub
    lock: threading.Lock
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        stub = self.stub
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if len(content) < int(self.headers["Content-Length"]):  # whoever asked was killed
            self.close_connection = True
            return
        body = json.loads(content)
        with self.lock:
            stub.bodies.append(body)
            stub.headers.append(dict(self.headers))
            stub.times.append(time.monotonic())
            stub.under_way += 1
            stub.most_under_way = max(stub.most_under_way, stub.under_way)
            misdeed = stub.plan.popleft() if stub.plan else ""
        try:
            getattr(self, f"do_{misdeed or 'answer'}")(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.lock:
                stub.under_way -= 1

    def do_answer(self, body: dict[str, Any]) -> None:
        time.sleep(self.stub.delay)
        text = self.stub.write(body["messages"][-1]["content"])
        if body.get("stream"):
            self.stream(text)
        else:
            self.reply(200, self.completed(text))

    def stream(self, text: str, end: str = "data: [DONE]\n\n") -> None:
        """Send a text in pieces, as server-sent events."""
        pieces = [text[start : start + 4] for start in range(0, len(text), 4)]
        chunks = [{"choices": [{"delta": {"role": "assistant"}}]}]
        chunks += [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
        chunks += [{"choices": [], "usage": {"completion_tokens": 50}}]
        lines = ": a comment\n\n" + "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + end
        self.send(200, lines.encode(), {"Content-Type": "text/event-stream"})

    def do_break_off(self, body: dict[str, Any]) -> None:
        self.stream(self.stub.write(body["messages"][-1]["content"]), end="")

    def completed(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 300, "completion_tokens": 50}
        return {"choices": [{"index": 0, "message": message}], "usage": usage}

    def do_busy(self, body: dict[str, Any]) -> None:
        self.reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "1"})

    def do_busy_till(self, body: dict[str, Any]) -> None:
        later = formatdate(time.time() + 1.5, usegmt=True)
        self.reply(503, {"error": "warming up"}, {"Retry-After": later})

    def do_busy_all_day(self, body: dict[str, Any]) -> None:
        self.reply(429, {"error": {"message": "quota is used up"}}, {"Retry-After": "86400"})

    def do_fail(self, body: dict[str, Any]) -> None:
        self.reply(500, {"error": {"message": "out of memory"}})

    def do_cut(self, body: dict[str, Any]) -> None:
        """A model that ran out of tokens within its JSON."""
        text = self.stub.write(body["messages"][-1]["content"])
        self.reply(200, self.completed(text[: len(text) // 2]))

    def do_half_json(self, body: dict[str, Any]) -> None:
        self.send(200, b'{"choices": [{"message"', {})

    def do_drop(self, body: dict[str, Any]) -> None:
        """Promise more than is sent."""
        self.send(200, b'{"choices"', {"Content-Length": "1000"})
        self.close_connection = True

    def do_vanish(self, body: dict[str, Any]) -> None:
        self.close_connection = True

    def do_sleep(self, body: dict[str, Any]) -> None:
        time.sleep(0.6)
        self.do_answer(body)

    def do_no_schema(self, body: dict[str, Any]) -> None:
        said = {"error": {"message": "response_format: json_schema is not supported"}}
        self.reply(400, said) if "response_format" in body else self.do_answer(body)

    def do_new_name(self, body: dict[str, Any]) -> None:
        said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        self.reply(400, {"error": {"message": said}}) if "max_tokens" in body else None
        if "max_tokens" not in body:
            self.do_answer(body)

    def do_too_long(self, body: dict[str, Any]) -> None:
        self.reply(400, {"error": {"message": "the context holds 512 tokens"}})

    def do_no_key(self, body: dict[str, Any]) -> None:
        said = f"Incorrect key: {self.headers.get('Authorization')}"
        self.reply(401, {"error": {"message": said}})

    def do_redirect(self, body: dict[str, Any]) -> None:
        to = "http://me:other-key@127.0.0.1/?api_key=other-key"
        self.reply(302, {"error": f"moved to {to}, sk-other-key-1"}, {"Location": to})

    def do_nest(self, body: dict[str, Any]) -> None:
        self.send(500, b'{"error": ' + b"[" * 100_000, {})

    def do_bad_gzip(self, body: dict[str, Any]) -> None:
        self.send(200, b"no gzip", {"Content-Encoding": "gzip"})

    def do_no_model(self, body: dict[str, Any]) -> None:
        self.reply(404, {"error": {"message": f"no model {body['model']}"}})

    def do_echo_key(self, body: dict[str, Any]) -> None:
        self.reply(200, self.completed(f"You are {self.headers.get('Authorization')}"))

    def reply(
        self, code: int, content: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        self.send(code, json.dumps(content).encode(), headers or {})

    def send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let those be who went away in the middle of it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Stub]:
    """Run the server on a free port."""
    served = Stub()
    door = type("StubDoor", (Door,), {"stub": served, "lock": threading.Lock()})
    with Server(("127.0.0.1", 0), door) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()
