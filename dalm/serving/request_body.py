"""A request's body as it comes: it may be longer than it says, and slow."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive

from dalm.serving.api_errors import ApiError

BODY_SECONDS = 30.0
"""Seconds in which a body has to arrive."""
LINGER_SECONDS = 5.0
"""Seconds for which the rest of a refused body is read before its connection is closed."""


def too_large(limit: int) -> ApiError:
    """Return the refusal of a body that is longer than ``limit`` bytes."""
    return ApiError(
        413,
        f"the body is larger than {limit:,} bytes",
        code="too_large",
        headers={"Connection": "close"},
    )


class RequestBody:
    """The body of one request, counted as it comes."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self.limit = receive, limit
        self.received = 0
        self.whole = False
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive(self) -> Message:
        """Return the next message of the request.

        Raises:
            ApiError: the body is too long, or too slow.
        """
        if self.whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._next()
        except TimeoutError as error:
            raise ApiError(
                408, f"the body didn't arrive within {BODY_SECONDS:g} s", code="timeout"
            ) from error
        if self.received > self.limit:
            raise too_large(self.limit)
        return message

    async def discard_rest(self) -> None:
        """Read what is left of the body, for a few seconds.

        A connection that is closed with bytes unread is reset, and a reset takes the answer with
        it that a client, still sending, hasn't read.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.whole:
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        return message
