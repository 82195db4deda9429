"""Generate with a model on an OpenAI-compatible server: many requests at once, with retries."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx

from dalm.llm.chat_completions import (
    BusyError,
    Endpoint,
    RefusedError,
    ServerError,
    UnavailableError,
    backoff,
)
from dalm.llm.language_model import (
    Conversation,
    ModelError,
    OnFailure,
    OnReply,
    R,
    Reply,
    Request,
)
from dalm.llm.sampling import Outcome
from dalm.prompts import Message

logger = logging.getLogger(__name__)

STREAM_RETRIES = 3
"""Retries of a stream at most: somebody waits for it."""
LONGEST_WAIT = 600.0  # seconds; a server that asks for more is out of quota for the day
_UNSUPPORTED: dict[str, tuple[str, str | None]] = {
    "max_tokens": ("max_tokens.*max_completion_tokens.*instead", "max_completion_tokens"),
    "response_format": ("response_format|json|schema|grammar", None),
    "temperature": ("temperature", None),
    "seed": ("seed", None),
    "stream_options": ("stream_options|include_usage", None),
}
"""Parameters, the words by which a server says that it lacks one, and the other name to try."""


class OpenAIClient:
    """Keep so many requests under way at once, in one connection pool.

    No request is sent to a server for as long as it asks for in Retry-After. A parameter that it
    doesn't know (the JSON schema, the seed ...) is left out from then on.
    """

    def __init__(
        self, endpoint: Endpoint, parameters: Mapping[str, Any], concurrency: int = 1
    ) -> None:
        self.endpoint = endpoint
        self.parameters = dict(parameters)
        self.concurrency = concurrency
        self.required = frozenset[str]()
        """Parameters that are never left out: without them a reply is another one."""
        self.outcome: Outcome | None = None
        """Filled by `stream` with how the reply ended, and its tokens if the server counts them."""
        self._renamed: dict[str, str | None] = {}
        self._paused_until = 0.0
        self._replies = 0
        self._failures_in_a_row = 0

    @property
    def name(self) -> str:
        """The server's name for the model."""
        return self.endpoint.model

    @property
    def identity(self) -> str:
        """The same: what a server answers by this name is taken for one model."""
        return self.endpoint.model

    def generate(
        self, requests: Sequence[R], on_reply: OnReply[R], on_failure: OnFailure[R]
    ) -> None:
        """Send every request; call `on_reply` or `on_failure` for each, in the order of outcome.

        Raises:
            ServerError: the server rejects all of them, or is gone; with the endpoint's options
                a UserError.
        """
        work = self._send_all(iter(requests), on_reply, on_failure)
        with self.endpoint.explained():
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return _run(work)
            with ThreadPoolExecutor(1) as thread:  # a notebook has a loop running already
                return thread.submit(_run, work).result()

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the pieces of a reply as they arrive; retried only until the first one is there.

        Raises:
            ModelError: the server is busy after all retries, rejects the request or breaks off;
                with the endpoint's options a UserError.
        """
        endpoint = self.endpoint
        retries = min(endpoint.max_retries, STREAM_RETRIES)
        with endpoint.explained(), endpoint.client(httpx.Client) as client:
            for tries in range(1, retries + 2):
                started = False
                try:
                    for piece in self._stream_once(client, Conversation(list(messages))):
                        started = True
                        yield piece
                except BusyError as error:
                    if started or tries > retries:
                        raise type(error)(f"{endpoint.url}: {error}") from error
                    self._pause(error)
                    wait = backoff(tries, endpoint.first_wait, random.random())
                    time.sleep(error.wait or wait)
                else:
                    return

    def _stream_once(self, client: httpx.Client, request: Request) -> Iterator[str]:
        while True:
            body = self._body(request) | {"stream": True}
            if self.outcome is not None and "stream_options" not in self._renamed:
                body["stream_options"] = {"include_usage": True}
            try:
                with client.stream("POST", self.endpoint.url, json=body) as response:
                    if response.status_code == 200:
                        yield from self.endpoint.read_stream(response.iter_lines(), self.outcome)
                        return
                    response.read()
            except httpx.RequestError as error:
                raise self.endpoint.failure(error) from error
            rejected = response.status_code in (400, 422)
            if not rejected or not self._drop_parameter(response.text):
                self.endpoint.check(response)

    async def _send_all(
        self, waiting: Iterator[R], on_reply: OnReply[R], on_failure: OnFailure[R]
    ) -> None:
        limits = httpx.Limits(max_connections=self.concurrency)
        async with (
            self.endpoint.client(httpx.AsyncClient, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self.concurrency):
                group.create_task(self._work(client, waiting, on_reply, on_failure))

    async def _work(
        self,
        client: httpx.AsyncClient,
        waiting: Iterator[R],
        on_reply: OnReply[R],
        on_failure: OnFailure[R],
    ) -> None:
        for request in waiting:  # shared: each worker takes the next that is left
            try:
                reply = await self._send(client, request)
            except (BusyError, RefusedError) as error:
                self._count_failure(error)
                on_failure(request, ModelError(self.endpoint.explain(error)))
            else:
                self._replies += 1
                self._failures_in_a_row = 0
                on_reply(request, reply)

    def _count_failure(self, error: BusyError | RefusedError) -> None:
        """Stop when it's the server and not the request: going on would gain nothing."""
        self._failures_in_a_row += 1
        many = self._failures_in_a_row >= max(3, self.concurrency)
        if many and (isinstance(error, BusyError) or not self._replies):
            raise UnavailableError(self.endpoint.url, self._failures_in_a_row, error)

    async def _send(self, client: httpx.AsyncClient, request: Request) -> Reply:
        for tries in range(1, self.endpoint.max_retries + 2):
            while (pause := self._paused_until - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            try:
                return await self._send_once(client, request)
            except BusyError as error:
                if tries > self.endpoint.max_retries:
                    raise
                self._pause(error)
                if not error.wait:
                    wait = backoff(tries, self.endpoint.first_wait, random.random())
                    await asyncio.sleep(wait)
        raise AssertionError("a last try returns or raises")

    def _pause(self, error: BusyError) -> None:
        """Hold all requests back for as long as the server asks."""
        if not error.wait:
            return
        if error.wait > LONGEST_WAIT:
            minutes = f"{error.wait / 60:.0f} minutes"
            raise ServerError(f"{self.endpoint.url} asks to try again in {minutes} ({error})")
        self._paused_until = max(self._paused_until, time.monotonic() + error.wait)

    async def _send_once(self, client: httpx.AsyncClient, request: Request) -> Reply:
        start = time.perf_counter()
        while True:
            known = set(self._renamed)
            try:
                response = await client.post(self.endpoint.url, json=self._body(request))
            except httpx.RequestError as error:
                raise self.endpoint.failure(error) from error
            if response.status_code not in (400, 422):
                break
            # Others may have met the same refusal meanwhile: then only try again without.
            if known == set(self._renamed) and not self._drop_parameter(response.text):
                break
        self.endpoint.check(response)
        return self.endpoint.read(response, time.perf_counter() - start)

    def _body(self, request: Request) -> dict[str, Any]:
        body = {"model": self.endpoint.model, "messages": request.messages, **self.parameters}
        if request.response_format is not None:
            body["response_format"] = request.response_format
        for name, other in self._renamed.items():
            value = body.pop(name, None)
            if other is not None:
                body[other] = value
        return body

    def _drop_parameter(self, message: str) -> bool:
        """Leave out the parameter that a server complains of, and return whether there was one."""
        for name, (mark, other) in _UNSUPPORTED.items():
            if name in self.required and other is None:
                continue
            if name not in self._renamed and re.search(mark, message):
                self._renamed[name] = other
                logger.info("server     takes no %s; it is %s", name, other or "left out")
                return True
        return False


def greedy(max_new_tokens: int) -> dict[str, Any]:
    """Return the parameters of the most likely reply, which is what a local model generates."""
    return {"temperature": 0.0, "max_tokens": max_new_tokens, "seed": 0}


def _run(work: Any) -> None:
    try:
        asyncio.run(work)
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
