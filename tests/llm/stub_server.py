"""A server that speaks the protocol of chat completions, and misbehaves when told to."""

import json
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sent:
    """A response to send as it is; a body that is no bytes is sent as JSON."""

    body: Any
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def completion(message: Any, finish: str | None = "stop", **others: Any) -> Sent:
    """Return a chat completion with this message; a string is its content."""
    message = {"role": "assistant", "content": message} if isinstance(message, str) else message
    return Sent({"choices": [{"message": message, "finish_reason": finish}], **others})


@dataclass
class Stub:
    """What the server does and what it was asked; `plan` holds its next misdeeds."""

    url: str = ""
    plan: deque[str | Sent] = field(default_factory=deque)
    delay: float = 0.0
    write: Callable[[str], str] = lambda asked: f"an answer to: {asked}"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    refuses_schema: Sent | None = None
    """What a request with a JSON schema is answered."""
    stop: Callable[[], None] = lambda: None
    start: Callable[[], None] = lambda: None
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
            misdeed: str | Sent = stub.plan.popleft() if stub.plan else ""
            if stub.refuses_schema and "response_format" in body:
                misdeed = stub.refuses_schema
        try:
            if isinstance(misdeed, Sent):
                self.send(misdeed.code, misdeed.content, misdeed.headers)
            else:
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

    def get_request(self) -> Any:
        found = super().get_request()
        self.connections = [*getattr(self, "connections", []), found[0]]
        return found

    def close_connections(self) -> None:
        for each in getattr(self, "connections", []):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let those be who went away in the middle of it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Stub]:
    """Run the server on a free port, with TLS if there is a certificate.

    `stop` ends it and its connections, as a killed process does; `start` starts it again.
    """
    served = Stub()
    door = type("StubDoor", (Door,), {"stub": served, "lock": threading.Lock()})
    running: list[Server] = []

    def start() -> None:
        port = running.pop().server_port if running else 0
        server = Server(("127.0.0.1", port), door)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        served.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/v1"

    def stop() -> None:
        for server in running:
            server.shutdown()
            server.close_connections()
            server.server_close()

    served.start, served.stop = start, stop
    start()
    yield served
    stop()
