"""Write one line of JSON for each request into the log, and count it for /metrics."""

import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import h11
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dalm.progress import Stopwatch
from dalm.serving.api_errors import of_exception
from dalm.serving.service import RunningAnswer, Service

logger = logging.getLogger(__name__)


class Entry(Stopwatch):
    """What is written of a request."""

    def __init__(self, with_questions: bool) -> None:
        super().__init__()
        self.facts: dict[str, Any] = {}
        self.status: int | None = None
        self._with_questions = with_questions

    def question(self, *texts: str) -> None:
        """Note the questions, if they may be written."""
        if self._with_questions:
            self.facts["questions"] = list(texts)

    def answer(self, answer: RunningAnswer) -> None:
        """Note the times and counts of an answer."""
        for stage, seconds in answer.control.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.facts |= {
            "generation": answer.index.generation.number,
            "passages": len(answer.turn.hits),
            "tokens_in": answer.outcome.tokens_in,
            "tokens_out": answer.outcome.tokens_out,
        }

        self.query_cut_at(answer.query_cut_at)

    def query_cut_at(self, tokens: int | None) -> None:
        """Note that a query is longer than the search by meaning reads."""
        if tokens is not None:
            self.facts["query_cut_at"] = tokens

    def failed(self, error: Exception) -> None:
        """Note an error after the response has begun, whose status is then no longer true."""
        told = of_exception(error)
        self.facts["error"] = told.code or told.status


def of(request: Request) -> Entry:
    """Return a request's entry."""
    entry: Entry = request.scope["dalm.log"]
    return entry


class RequestLog:
    """The outermost part of the application: it sees every response as it is sent."""

    def __init__(self, app: ASGIApp, service: Service, routes: Sequence[BaseRoute]) -> None:
        self.app, self.service, self.routes = app, service, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        entry = scope["dalm.log"] = Entry(self.service.settings.log_questions)
        start, done = time.perf_counter(), False

        async def noting(message: Message) -> None:
            nonlocal done
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            # What h11 can't parse to its end has been answered by uvicorn: nobody listens.
            with suppress(h11.LocalProtocolError):
                await send(message)
            done = message["type"] == "http.response.body" and not message.get("more_body", False)

        self.service.running += 1
        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if entry.status is None:
                await of_exception(error).response(scope, receive, noting)
        finally:
            self.service.running -= 1
            if not done:
                entry.facts["unfinished"] = True
            self._write(scope, entry, time.perf_counter() - start)

    def _write(self, scope: Scope, entry: Entry, seconds: float) -> None:
        path = self._path(scope["path"])
        stages = {f"{name}_ms": round(1000 * each, 1) for name, each in entry.seconds.items()}
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": scope["method"][:20],
            "path": path,
            "status": entry.status,
            "ms": round(1000 * seconds, 1),
            **stages,
            **entry.facts,
        }
        logger.info("%s", json.dumps(line))
        metrics = self.service.metrics
        metrics.requests.labels(path, str(entry.status)).inc()
        metrics.seconds.labels(path).observe(seconds)
        for name, each in entry.seconds.items():
            metrics.stages.labels(name).observe(each)
        metrics.tokens.inc(entry.facts.get("tokens_out") or 0)

    def _path(self, asked: str) -> str:
        """Return a route's path: what a client asks for may be anything."""
        for route in self.routes:
            pattern = getattr(route, "path_regex", None)
            if pattern is not None and pattern.match(asked):
                return str(getattr(route, "path", asked))
        return "other"
