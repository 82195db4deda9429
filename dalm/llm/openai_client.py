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

from dalm.llm.chat_completions import Endpoint
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
from dalm.llm.server_errors import (
    BusyError,
    NoAnswerError,
    NoServerError,
    RefusedError,
    ServerError,
    TimedOutError,
    TruncatedError,
    UnavailableError,
    UnreachableError,
)
from dalm.llm.server_status import backoff
from dalm.prompts import Message

logger = logging.getLogger(__name__)

STREAM_RETRIES = 3
"""Retries of a stream at most: somebody waits for it."""
LONGEST_WAIT = 600.0  # seconds; a server that asks for more is out of quota for the day
LARGEST_REPLY = 32 * 2**20  # bytes
_UNSUPPORTED: dict[str, tuple[str, str | None]] = {
    "max_tokens": ("max_tokens.*max_completion_tokens.*instead", "max_completion_tokens"),
    "response_format": ("response_format|json|schema|grammar", None),
    "temperature": ("temperature", None),
    "seed": ("seed", None),
    "stream_options": ("stream_options|include_usage", None),
}
"""Parameters, the words by which a server says that it lacks one, and the other name to try."""
_OF_TRANSFER = {"content-encoding", "content-length", "transfer-encoding"}
"""Headers of a body as it is sent, not as it is read."""
_STREAMS_ONLY = re.compile(r"\bstream(?:ing)?\b(?!_)", re.IGNORECASE)


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
        self.habits = set[str]()
        """What readers of its streams have found out; all copies of a client share it."""
        self._renamed: dict[str, str | None] = {}
        self._schema_decided = False
        """Whether it is known if the server takes `response_format`."""
        self._streams_only = False
        self._paused_until = 0.0
        self._replies = 0
        self._heard = False
        """Whether the server has replied, with an answer or without."""
        self._failures_in_a_row = 0

    @property
    def name(self) -> str:
        """The server's name for the model."""
        return self.endpoint.model

    @property
    def identity(self) -> str:
        """The same: what a server answers by this name is taken for one model."""
        return self.endpoint.model

    @property
    def length_option(self) -> str:
        """The option that limits the length of replies, for messages."""
        options = self.endpoint.options
        return options.max_tokens if options else "max_tokens"

    @property
    def _limit(self) -> int | None:
        return self.parameters.get("max_tokens")

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

    def stream(self, messages: Sequence[Message], outcome: Outcome | None = None) -> Iterator[str]:
        """Yield the pieces of a reply as they arrive; retried only until the first one is there.

        `outcome` is filled with how the reply ended, and its tokens if the server counts them.

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
                    for piece in self._stream_once(client, Conversation(list(messages)), outcome):
                        started = True
                        yield piece
                except BusyError as error:
                    if started or tries > min(retries, self._retries(error)):
                        error.args = (f"{endpoint.url}: {error}",)
                        raise
                    self._pause(error)
                    wait = backoff(tries, endpoint.first_wait, random.random())
                    time.sleep(error.wait or wait)
                else:
                    return

    def _stream_once(
        self, client: httpx.Client, request: Request, outcome: Outcome | None
    ) -> Iterator[str]:
        while True:
            body = self._body(request) | {"stream": True}
            if outcome is not None and "stream_options" not in self._renamed:
                body["stream_options"] = {"include_usage": True}
            try:
                with client.stream("POST", self.endpoint.url, json=body) as response:
                    if response.status_code == 200:
                        lines = response.iter_lines()
                        yield from self.endpoint.read_stream(lines, outcome, self._limit)
                        return
                    response.read()
            except httpx.RequestError as error:
                raise self.endpoint.failure(error) from error
            rejected = response.status_code in (400, 422)
            if not rejected or not self._drop_parameter(response.text, body):
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
            except (BusyError, RefusedError, TruncatedError, NoAnswerError) as error:
                self._heard |= isinstance(error, TruncatedError | NoAnswerError)
                self._count_failure(error)
                on_failure(request, ModelError(self.endpoint.explain(error)))
            else:
                self._heard = True
                self._replies += 1
                self._failures_in_a_row = 0
                on_reply(request, reply)

    def _count_failure(self, error: ModelError) -> None:
        """Stop when it's the server and not the request: going on would gain nothing."""
        self._failures_in_a_row += 1
        many = self._failures_in_a_row >= max(3, self.concurrency)
        if many and (isinstance(error, BusyError) or not self._replies):
            raise UnavailableError(self.endpoint.url, self._failures_in_a_row, error)

    async def _send(self, client: httpx.AsyncClient, request: Request) -> Reply:
        """Return the reply to a request, after as many retries as the server's state is worth.

        They are counted anew where the server puts the request off and answers others meanwhile: it
        limits how often it is asked, and this one's turn comes.
        """
        tries, replies = 1, self._replies
        while True:
            while (pause := self._paused_until - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            try:
                return await self._send_once(client, request, tries)
            except BusyError as error:
                if error.wait and self._replies > replies:
                    tries, replies = 1, self._replies
                    self._pause(error)
                    continue
                if tries > self._retries(error):
                    if isinstance(error, UnreachableError) and not self._heard:
                        raise NoServerError(self.endpoint.url, error) from error
                    raise
                self._pause(error)
                if not error.wait:
                    wait = backoff(tries, self.endpoint.first_wait, random.random())
                    await asyncio.sleep(wait)
                tries += 1

    def _retries(self, error: BusyError) -> int:
        """Return how often to try again; a server that has replied before may be restarting."""
        most = self.endpoint.max_retries
        if error.most is None or (isinstance(error, UnreachableError) and self._heard):
            return most
        return min(most, error.most)

    def _pause(self, error: BusyError) -> None:
        """Hold all requests back for as long as the server asks."""
        if not error.wait:
            return
        if error.wait > LONGEST_WAIT:
            minutes = f"{error.wait / 60:.0f} minutes"
            raise ServerError(f"{self.endpoint.url} asks to try again in {minutes} ({error})")
        self._paused_until = max(self._paused_until, time.monotonic() + error.wait)

    async def _send_once(self, client: httpx.AsyncClient, request: Request, tries: int) -> Reply:
        """Send a request, and again without the parameters that the server turns out to lack."""
        start = time.perf_counter()
        while True:
            body = self._body(request)
            response = await self._post(client, body)
            if not self._adapts(response, body):
                break
        if self._may_be_the_schema(response.status_code, body, tries):
            response = await self._without_schema(client, request) or response
        self._schema_decided |= response.status_code == 200 and "response_format" in body
        self.endpoint.check(response)
        seconds = time.perf_counter() - start
        structured = request.response_format is not None
        return self.endpoint.read(response, seconds, limit=self._limit, structured=structured)

    def _may_be_the_schema(self, status: int, body: Mapping[str, Any], tries: int) -> bool:
        """Return whether to try once without the schema; a 500 may also pass by itself."""
        unknown = "response_format" in body and not self._schema_decided
        return unknown and (status in (400, 422, 501) or (status == 500 and tries > 1))

    async def _without_schema(
        self, client: httpx.AsyncClient, request: Request
    ) -> httpx.Response | None:
        """Send a request without its schema, from then on if that helps; None if it doesn't."""
        self._schema_decided, self._renamed["response_format"] = True, None
        status = 0
        try:
            response = await self._post(client, self._body(request))
            status = response.status_code
        finally:
            if status != 200:
                self._renamed.pop("response_format", None)
                self._schema_decided = status in (400, 422, 500, 501)
        if status != 200:
            return None
        logger.info("server     takes no response_format; it is left out")
        return response

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
        url, limit = self.endpoint.url, self.endpoint.timeout
        try:
            async with asyncio.timeout(limit), client.stream("POST", url, json=body) as response:
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > LARGEST_REPLY:
                        raise NoAnswerError(f"the reply has more than {LARGEST_REPLY >> 20} MiB")
        except TimeoutError as error:  # its bytes come, but no end
            raise TimedOutError(f"no answer in {limit:g} s", most=3) from error
        except httpx.RequestError as error:
            raise self.endpoint.failure(error) from error
        headers = [(n, v) for n, v in response.headers.multi_items() if n not in _OF_TRANSFER]
        return httpx.Response(response.status_code, headers=headers, content=bytes(content))

    def _adapts(self, response: httpx.Response, body: dict[str, Any]) -> bool:
        """Return whether the same request, made anew, does without what the server refuses."""
        status = response.status_code
        if status in (400, 422, 500, 501) and any(name in body for name in self._renamed):
            return True  # another request has met the same refusal meanwhile
        if status not in (400, 422):
            return False
        if self._drop_parameter(response.text, body):
            return True
        if "stream" in body or not _STREAMS_ONLY.search(response.text):
            return False
        logger.info("server     streams only; its events are joined")
        self._streams_only = True
        return True

    def _body(self, request: Request) -> dict[str, Any]:
        body = {"model": self.endpoint.model, "messages": request.messages, **self.parameters}
        if request.response_format is not None:
            body["response_format"] = request.response_format
        for name, other in self._renamed.items():
            value = body.pop(name, None)
            if other is not None:
                body[other] = value
        if self._streams_only:
            body["stream"] = True
        return body

    def _drop_parameter(self, message: str, body: Mapping[str, Any]) -> bool:
        """Leave out the parameter that a server complains of, and return whether there was one."""
        for name, (mark, other) in _UNSUPPORTED.items():
            if name in self.required and other is None:
                continue
            if name in body and name not in self._renamed and re.search(mark, message):
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
