"""Ask an OpenAI-compatible server: requests in, answers out as they arrive."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx

from dalm.errors import UserError
from dalm.llm.chat_completions import BusyError, RefusedError, Server, backed_off
from dalm.llm.language_model import Answered, Failed, Reply, Request

logger = logging.getLogger(__name__)

LONGEST_WAIT = 600.0  # seconds; a server that asks for more is out of quota for the day
_UNKNOWN: dict[str, tuple[str, str | None]] = {
    "max_tokens": ("max_tokens.*max_completion_tokens.*instead", "max_completion_tokens"),
    "response_format": ("response_format|json|schema|grammar", None),
    "temperature": ("temperature", None),
    "seed": ("seed", None),
}
"""Parameters, the words by which a server says that it has none, and the other name to try."""


class Asker:
    """Ask with so many requests under way at once, in one connection pool.

    A server that names a time in Retry-After is left alone for that long by all requests. A
    parameter that it doesn't know (the JSON schema, the seed ...) is left out from then on.
    """

    def __init__(self, server: Server, concurrency: int, parameters: Mapping[str, Any]) -> None:
        self.server = server
        self.concurrency = concurrency
        self.parameters = dict(parameters)
        self._renamed: dict[str, str | None] = {}
        self._quiet_until = 0.0
        self._answered = 0
        self._failures_in_a_row = 0

    def ask(self, requests: Sequence[Request], answered: Answered, failed: Failed) -> None:
        """Put every request; call `answered` or `failed` for each, in the order they come.

        Raises:
            UserError: the server refuses all of them, or is gone; what was answered is kept.
        """
        work = self._ask_all(iter(requests), answered, failed)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return _run(work)
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop running already
            return thread.submit(_run, work).result()

    async def _ask_all(
        self, waiting: Iterator[Request], answered: Answered, failed: Failed
    ) -> None:
        key = self.server.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self.concurrency)
        timeout = httpx.Timeout(self.server.timeout, connect=min(30.0, self.server.timeout))
        async with (
            httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self.concurrency):
                group.create_task(self._work(client, waiting, answered, failed))

    async def _work(
        self,
        client: httpx.AsyncClient,
        waiting: Iterator[Request],
        answered: Answered,
        failed: Failed,
    ) -> None:
        for request in waiting:  # shared: each takes the next that nobody has taken
            try:
                reply = await self._patiently(client, request)
            except (BusyError, RefusedError) as error:
                self._count_failure(error)
                failed(request, str(error))
            else:
                self._answered += 1
                self._failures_in_a_row = 0
                answered(request, reply)

    def _count_failure(self, error: Exception) -> None:
        """Stop when it's the server and not the request: nothing would be gained by going on."""
        self._failures_in_a_row += 1
        many = self._failures_in_a_row >= max(3, self.concurrency)
        if many and (isinstance(error, BusyError) or not self._answered):
            raise UserError(
                f"{self.server.base_url} gave {self._failures_in_a_row} times in a row no answer, "
                f"at last: {error}; check the server and the model's name; "
                f"{self.server.options.kept}"
            )

    async def _patiently(self, client: httpx.AsyncClient, request: Request) -> Reply:
        for tries in range(1, self.server.max_retries + 2):
            while (pause := self._quiet_until - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            try:
                return await self._once(client, request)
            except BusyError as error:
                if tries > self.server.max_retries:
                    raise
                if error.wait:
                    self._leave_alone(error.wait, str(error))
                else:
                    chance = random.random()
                    await asyncio.sleep(backed_off(tries, self.server.first_wait, chance))
        raise AssertionError("a last try answers or raises")

    def _leave_alone(self, wait: float, reason: str) -> None:
        if wait > LONGEST_WAIT:
            raise UserError(
                f"{self.server.base_url} asks to come back in {wait / 60:.0f} minutes ({reason}); "
                f"{self.server.options.kept}"
            )
        self._quiet_until = max(self._quiet_until, time.monotonic() + wait)

    async def _once(self, client: httpx.AsyncClient, request: Request) -> Reply:
        start = time.perf_counter()
        while True:
            known = set(self._renamed)
            response = await self._post(client, request)
            if response.status_code not in (400, 422):
                break
            # Others may have met the same refusal meanwhile: then only try again without.
            if known == set(self._renamed) and not self._drop_parameter(response.text):
                raise RefusedError(self.server.reason(response))
        self.server.check(response)
        return self.server.read(response, time.perf_counter() - start)

    async def _post(self, client: httpx.AsyncClient, request: Request) -> httpx.Response:
        body = {"model": self.server.model, "messages": request.messages, **self.parameters}
        body["response_format"] = request.response_format
        for name, other in self._renamed.items():
            value = body.pop(name, None)
            if other is not None:
                body[other] = value
        try:
            return await client.post(self.server.base_url, json=body)
        except httpx.TimeoutException as error:
            option = self.server.options.timeout
            raise BusyError(f"no answer in {self.server.timeout:g} s ({option})") from error
        except httpx.TransportError as error:
            reason = self.server.without_key(str(error)) or type(error).__name__
            raise BusyError(f"the connection failed ({reason})") from error

    def _drop_parameter(self, said: str) -> bool:
        """Leave out the parameter that a server complains of; tell whether there was one."""
        for name, (mark, other) in _UNKNOWN.items():
            if name not in self._renamed and re.search(mark, said):
                self._renamed[name] = other
                logger.info("server     takes no %s; it is %s", name, other or "left out")
                return True
        return False


def _run(work: Any) -> None:
    try:
        asyncio.run(work)
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
